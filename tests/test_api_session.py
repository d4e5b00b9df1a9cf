"""docs/api.md is true: its Python session runs, and its calls and answers are those of the OpenAPI document."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import datasets
import pytest
from django.test import Client
from pytest_django.live_server_helper import LiveServer

from annotate.models import Demonstration, Member, Placement, Prompt, Role
from annotate.services.exporting.records import COLUMNS
from tests.factories import bearer, make_member, make_project, make_token, make_user
from tests.training import machine
from training.models import ModelVersion, Promotion, Round, TrainingSettings

PAGE = Path(__file__).resolve().parent.parent / "docs/api.md"
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
SESSION = "\n".join(text for language, text in BLOCKS if language == "python")


def curl_call(block: str) -> tuple[str, str] | None:
    """Method and path of the curl command in a shell block, if it has one."""
    _before, curl, command = block.partition("curl ")
    if not curl:
        return None
    words = shlex.split(command)
    path = next(word.removeprefix("$API/").partition("?")[0] for word in words if word.startswith("$API/"))
    if "-X" in words:
        return words[words.index("-X") + 1], path
    return "POST" if {"--json", "--data-binary"} & set(words) else "GET", path


CURL_CALLS = [call for language, text in BLOCKS if language == "sh" and (call := curl_call(text))]


def answers() -> list[tuple[tuple[str, str], Any]]:
    """Each answer on the page with its call."""
    pairs, call = [], ("", "")
    for language, text in BLOCKS:
        if language == "sh":
            call = curl_call(text) or call
        elif language == "json":
            pairs.append((call, json.loads(text)))
    return pairs


@pytest.fixture
def document(client: Client, db: None) -> dict[str, Any]:
    """The OpenAPI document."""
    return client.get("/api/v1/schema/?format=json", headers=bearer(make_user())).json()


def operation(document: dict[str, Any], call: tuple[str, str]) -> dict[str, Any]:
    """What the document says of `call`."""
    method, path = call
    by_parameters = sorted(document["paths"].items(), key=lambda path: path[0].count("{"))  # as an address is resolved
    for template, methods in by_parameters:
        if re.fullmatch(re.sub(r"{\w+}", r"[^/{}]+", template), f"/api/v1/{path}") and method.lower() in methods:
            return methods[method.lower()]
    pytest.fail(f"The API has no {method} {path}")


def assert_fields(document: dict[str, Any], schema: dict[str, Any], shown: Any) -> None:
    """`shown` has the fields of `schema`, all of them and at every depth."""
    schema = schema.get("allOf", [schema])[0]
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if isinstance(shown, list):
        for item in shown:
            assert_fields(document, schema["items"], item)
    elif isinstance(shown, dict) and "properties" in schema:
        assert shown.keys() == schema["properties"].keys()
        for name, value in shown.items():
            assert_fields(document, schema["properties"][name], value)


@pytest.fixture
def admin(db: None) -> Member:
    """Whoever may do all that the page does, in a project whose next round can start."""
    project = make_project("Everyday questions")
    TrainingSettings.objects.create(project=project, demonstrations_minimum=1, overrides=machine.OVERRIDES)
    ModelVersion.objects.create(project=project, kind="base", number=1, manifest_sha256="0" * 64)
    return make_member(project, role=Role.ADMIN)


@pytest.mark.database
@pytest.mark.django_db(transaction=True)
def test_the_python_session_runs(
    admin: Member, live_server: LiveServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old_rounds = (Round(project=admin.project, number=n, plan={}, status="cancelled") for n in range(1, 52))
    Round.objects.bulk_create(old_rounds)  # more than a page of them
    machine.make_model(admin.project, "sft")  # to promote
    monkeypatch.setenv("ROUNDTABLE_API", f"{live_server.url}/api/v1")
    monkeypatch.setenv("ROUNDTABLE_TOKEN", make_token(admin.user))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)  # where the session writes its exports
    session: dict[str, Any] = {}
    exec(compile(SESSION, str(PAGE), "exec"), session)
    assert session["report"]["created"] == Prompt.objects.count() == 2
    assert Demonstration.objects.get().annotator == admin
    assert sorted(Placement.objects.values_list("place", flat=True)) == [1, 2]
    assert Round.objects.get(number=52).status == Round.Status.CANCELLED
    assert session["past"]["number"] == 1  # the last row of the last page
    assert Promotion.objects.get().promoted_by == admin.user
    loaded = [len(session[kind]) for kind in ("demonstrations", "rankings", "comparisons", "prompts", "completions")]
    assert loaded == [1, 1, 1, 2, 2]


def test_the_exported_line_has_the_fields_of_its_kind_and_the_page_names_them_all() -> None:
    (line,) = [text for language, text in BLOCKS if language == "jsonl"]
    assert list(json.loads(line)) == list(COLUMNS["comparisons"])
    named = set(re.findall(r"`(\w+)`", PAGE.read_text().partition("## Export")[2].partition("\n## ")[0]))
    assert set().union(*COLUMNS.values()) - named == set()


def test_every_command_reaches_an_address_of_the_api(document: dict[str, Any]) -> None:
    assert len(CURL_CALLS) > 15
    for call in CURL_CALLS:
        operation(document, call)


def test_every_answer_has_the_fields_of_the_document(document: dict[str, Any]) -> None:
    for call, shown in answers():
        responses = operation(document, call)["responses"]
        if "status" in shown and "detail" in shown:
            assert shown.keys() >= {"type", "title", "status", "detail"}
        else:
            (success,) = (body for status, body in responses.items() if status.startswith("2"))
            assert_fields(document, success["content"]["application/json"]["schema"], shown)


def test_the_table_of_calls_is_complete(document: dict[str, Any]) -> None:
    listed = re.findall(r"^\| ([A-Z]+) \| `(\S+)` \|", PAGE.read_text(), flags=re.MULTILINE)
    offered = [
        (method.upper(), path.removeprefix("/api/v1/"))
        for path, methods in document["paths"].items()
        for method in methods
    ]
    assert sorted(listed) == sorted([*offered, ("GET", "schema/")])
