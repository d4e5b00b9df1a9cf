"""Exported files load with `datasets` by the lines that the page shows, whatever is in them and however large."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import datasets
import pytest
from django.test import Client

from annotate.models import Kind, Member, Project, Verdict
from annotate.services import demonstrations, prompts, rankings, reviews, slates, work
from annotate.services.exporting.exports import KINDS, Export
from annotate.services.exporting.selection import Selection
from annotate.services.slates import NewCompletion
from annotate.services.text import MESSAGE_LIMIT
from tests.factories import make_demonstration, make_member, make_project, make_ranking

pytestmark = pytest.mark.django_db

FIRST_LOOK = 10 * 1024 * 1024  # bytes from which `datasets` takes the types of all columns


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)


def download(client: Client, project: Project, kind: str, form: str = "jsonl") -> bytes:
    answer = client.get(f"/projects/{project.slug}/export/{kind}/?format={form}")
    assert answer.status_code == 200
    return b"".join(answer.streaming_content)


def lines_on_the_page(page: str) -> dict[str, str]:
    """What the page says to load each kind, by the kind."""
    shown = [html.unescape(code) for code in re.findall(r"<code>(from datasets.*?)</code>", page, flags=re.DOTALL)]
    assert [len(code.strip().splitlines()) for code in shown] == [3] * len(KINDS)
    return dict(zip(KINDS, shown, strict=True))


def test_the_three_lines_on_the_page_load_what_trains(
    client: Client, project: Project, annotator: Member, reviewer: Member, admin: Member, tmp_path: Path
) -> None:
    for make in (make_demonstration, make_ranking):
        make(annotator)
        reviews.record(make(annotator), reviewer=reviewer, verdict=Verdict.RETURN, comment="Why?")
    client.force_login(admin.user)
    page = client.get(f"/projects/{project.slug}/export/").content.decode()
    loaded = {}
    for kind, code in lines_on_the_page(page).items():
        (name,) = re.findall(r'data_files="([^"]+)"', code)
        (tmp_path / name).write_bytes(download(client, project, kind))
        session: dict[str, Any] = {}
        exec(code, session)
        loaded[kind] = session[kind]
    numbers = {kind: len(rows) for kind, rows in loaded.items()}
    assert numbers == {"demonstrations": 1, "rankings": 1, "comparisons": 3, "prompts": 4, "completions": 6}
    roles = [turn["role"] for turn in loaded["demonstrations"][0]["messages"]]
    assert roles == ["user", "assistant"]
    pair = loaded["comparisons"][0]
    assert [[turn["role"] for turn in pair[name]] for name in ("prompt", "chosen", "rejected")] == [
        ["user"],
        ["assistant"],
        ["assistant"],
    ]
    assert [turn["role"] for turn in loaded["prompts"][0]["prompt"]] == ["user"]


@pytest.fixture
def uneven_project() -> Project:
    """Ten megabytes in which nobody used what may be left out, and then somebody who used all of it."""
    project = make_project()
    annotator, reviewer = make_member(project), make_member(project, role="reviewer")
    long = "x" * MESSAGE_LIMIT
    for number in range(FIRST_LOOK // MESSAGE_LIMIT // 9 + 2):
        rank(annotator, {"text": f"Question {number}?"}, [f"{index}{long[1:]}" for index in range(9)])
    for number in range(FIRST_LOOK // MESSAGE_LIMIT + 2):
        prompts.add_one(project, {"text": f"{number}{long[5:]}"})
        assignment = work.claim(project, annotator=annotator, kind=Kind.DEMONSTRATION).assignment
        demonstrations.submit(assignment, submission_id=uuid4(), text=long)
    talk = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why?"}]
    record = {"messages": talk, "external_id": "faq-1", "group": "faq", "metadata": {"tags": ["a"], "depth": {"n": 1}}}
    label = rank(annotator, record, ["a", "b"], ratings=[1, 7], flags=[["rude"], []], note="Really.")
    reviews.record(label, reviewer=reviewer, verdict=Verdict.RETURN, comment="Why?")
    places = dict.fromkeys(label.assignment.card_order, 1) | {label.assignment.card_order[0]: None}
    rankings.correct(label, annotator=annotator, submission_id=uuid4(), places=places, note="So.")
    make_ranking(make_member(project, is_simulated=True))
    assignment = work.claim(project, annotator=annotator, kind=Kind.DEMONSTRATION).assignment
    label = demonstrations.submit(assignment, submission_id=uuid4(), text="=1", flags=["short"], note="Why not?")
    reviews.record(label, reviewer=reviewer, verdict=Verdict.ACCEPT)
    return project


def rank(annotator: Member, record: dict[str, Any], texts: list[str], **said: Any) -> Any:
    prompt, _report = prompts.add_one(annotator.project, record)
    slates.add(annotator.project, prompt=prompt, completions=[NewCompletion(text) for text in texts])
    assignment = work.claim(annotator.project, annotator=annotator, kind=Kind.RANKING).assignment
    order = sorted(assignment.card_order)
    for name in ("ratings", "flags"):
        if name in said:
            said[name] = dict(zip(order, said[name], strict=True))
    places = {pk: place for place, pk in enumerate(order, 1)}
    return rankings.submit(assignment, submission_id=uuid4(), places=places, **said)


@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_first_after_ten_megabytes_loads_too(uneven_project: Project, kind: str, tmp_path: Path) -> None:
    pieces = Export(kind, "jsonl", Selection(uneven_project, "all")).pieces()
    file = tmp_path / "labels.jsonl"
    with file.open("wb") as opened:
        opened.writelines(pieces)
    assert file.stat().st_size > FIRST_LOOK
    rows = datasets.load_dataset("json", data_files=str(file), split="train")
    with file.open() as lines:
        assert len(rows) == sum(1 for _ in lines)
    assert "null" not in str(rows.features)


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_loads_as_text(
    client: Client, project: Project, annotator: Member, admin: Member, kind: str, tmp_path: Path
) -> None:
    make_demonstration(annotator, text='=SUM(A1)\n"quoted", and more')
    make_ranking(annotator)
    client.force_login(admin.user)
    (tmp_path / "labels.csv").write_bytes(download(client, project, kind, "csv"))
    rows = datasets.load_dataset("csv", data_files="labels.csv", split="train", keep_default_na=False)
    written = download(client, project, kind).decode().splitlines()
    assert len(rows) == len(written)
