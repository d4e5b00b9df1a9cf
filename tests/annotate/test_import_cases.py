"""Files that people brought, by form and API: one reader, one outcome, and a report that leaves nothing out."""

from __future__ import annotations

import io
import json
import tempfile
import tracemalloc
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from annotate import hooks
from annotate.api import parsers
from annotate.forms import prompts as prompt_forms
from annotate.models import Kind, Member, Prompt
from annotate.services import prompts, splits, work
from annotate.services.importing import sources
from tests.factories import bearer, make_member, make_project

pytestmark = [pytest.mark.django_db, pytest.mark.database]
CASES = Path(__file__).parent.parent / "cases"


class Importer(ABC):
    """One way to import prompts; `send` returns status, report and the text of the page or of the answer."""

    def __init__(self, admin: Member) -> None:
        self.admin = admin
        self.project = admin.project

    @abstractmethod
    def send(self, data: bytes) -> tuple[int, dict[str, Any], str]: ...


class Form(Importer):
    def send(self, data: bytes) -> tuple[int, dict[str, Any], str]:
        client = Client()
        client.force_login(self.admin.user)
        address = reverse("annotate:add-prompts", args=[self.project.slug])
        page = client.post(address, {"file": SimpleUploadedFile("prompts.jsonl", data)})
        imported = page.context.get("imported")
        return page.status_code, {**vars(imported), "changes": imported.changes} if imported else {}, _words(page)


class Api(Importer):
    def send(self, data: bytes) -> tuple[int, dict[str, Any], str]:
        address = reverse("annotate-api:prompts", args=[self.project.slug])
        media_type = "application/json" if data[:1] == b"[" else "application/x-ndjson"
        client = Client(headers=bearer(self.admin.user))
        answer = client.post(address, data, content_type=media_type)
        body = answer.json()
        return answer.status_code, body, json.dumps(body, ensure_ascii=False)


class Paste(Form):
    def send(self, data: bytes) -> tuple[int, dict[str, Any], str]:
        client = Client()
        client.force_login(self.admin.user)
        page = client.post(reverse("annotate:add-prompts", args=[self.project.slug]), {"paste": data.decode()})
        imported = page.context.get("imported")
        return page.status_code, {**vars(imported), "changes": imported.changes} if imported else {}, _words(page)


def _words(page: Any) -> str:
    return page.content.decode().replace("&quot;", '"').replace("&#x27;", "'")


@pytest.fixture(params=[Form, Api, Paste])
def importer(request, admin) -> Importer:
    return request.param(admin)


@pytest.fixture(params=[Form, Api])
def file_importer(request, admin) -> Importer:
    return request.param(admin)


def case(name: str) -> bytes:
    return (CASES / name).read_bytes()


def test_near_duplicates_are_added_and_reported_by_line(importer):
    status, report, words = importer.send(case("prompts-fold-together.jsonl"))
    assert (status, report["created"], report["rejected"]) == (200, 10, [])
    assert importer.project.prompts.count() == 10
    assert [row["line"] for row in report["near_duplicates"]] == [2, 4, 6, 8, 10]
    assert report["near_duplicate_count"] == 5
    firsts = dict(importer.project.prompts.values_list("pk", "messages"))
    for row in report["near_duplicates"]:
        assert f"near-duplicate of prompt #{row['like']}" in row["note"]
        assert row["like"] < row["prompt"]
        assert " ".join(firsts[row["like"]][0]["content"].split())[:60] in row["note"]
    assert words.count("near-duplicate of prompt") == 5
    _, again, _ = importer.send(case("prompts-fold-together.jsonl"))
    assert (again["created"], again["existing"], again["near_duplicates"]) == (0, 10, [])


def test_a_slate_keeps_the_prompt_that_it_came_with(admin, annotator):
    Api(admin).send(case("prompts-fold-together.jsonl"))
    sent = json.loads(case("slate-for-folded-prompt.json"))
    client = Client(headers=bearer(admin.user))
    address = reverse("annotate-api:slates", args=[admin.project.slug])
    answer = client.post(address, sent, content_type="application/json")
    assert (answer.status_code, answer.json()["notes"]) == (201, [])
    claim = work.claim(admin.project, annotator=annotator, kind=Kind.RANKING)
    assert claim.assignment.item.slate.prompt.question == sent["prompt"]["text"]
    assert admin.project.prompts.count() == 10


def test_what_became_of_a_prompt_that_came_with_a_slate_is_reported(admin):
    Api(admin).send(b'{"text": "Hello there?"}')
    turns = [{"role": "system", "content": " "}, {"role": "user", "content": "hello\x0bthere?", "name": "ann"}]
    sent = {"prompt": {"messages": turns}, "completions": [{"text": "a\x07"}, {"text": "b"}]}
    address = reverse("annotate-api:slates", args=[admin.project.slug])
    answer = Client(headers=bearer(admin.user)).post(address, sent, content_type="application/json").json()
    told = " ".join(answer["notes"])
    for part in (
        "“name” was ignored in 1 turn",
        "1 empty system turn",
        "1 control character was replaced",
        "near-duplicate of prompt #",
    ):
        assert part in told
    assert "In the completions: 1 control character" in told
    assert Prompt.objects.get(pk=answer["prompt"]).messages == [{"role": "user", "content": "hello there?"}]


def test_a_json_list_is_read_by_every_importer(importer):
    status, report, _ = importer.send(case("prompts-array.json"))
    assert (status, report["created"], report["rejected_count"]) == (200, 3, 0)
    assert set(importer.project.prompts.values_list("external_id", flat=True)) == {"a-0", "a-1", "a-2"}


def test_extra_keys_are_left_out_and_named_and_a_number_is_no_id(importer):
    status, report, words = importer.send(case("prompts-extra-keys.jsonl"))
    assert (status, report["created"]) == (200, 2)
    assert [row["line"] for row in report["rejected"]] == [3]
    assert "“external_id” must be a string in quotes, not 81." in words
    assert "“name” was ignored in 1 turn" in words
    assert "“weight” was ignored in 1 turn" in words
    assert all(
        set(turn) == {"role", "content"} for prompt in importer.project.prompts.all() for turn in prompt.messages
    )


def test_unknown_fields_are_counted_by_name(importer):
    lines = [{"text": f"Question {n}?", "source": "mail", "tags": []} for n in range(3)]
    _, report, words = importer.send(b"\n".join(json.dumps(line).encode() for line in lines))
    assert report["created"] == 3
    assert "“source” was ignored in 3 prompts" in words
    assert "“tags” was ignored in 3 prompts" in words


def test_a_group_that_is_held_out_as_a_whole_is_reported(db):
    for importer in (Form, Api):
        admin = make_member(make_project(heldout_share=0.1), role="admin")
        _, report, words = importer(admin).send(case("prompts-one-group.jsonl"))
        assert (report["train"], report["heldout"]) == (0, 20)
        warning = splits.warning(admin.project, train=0, heldout=20)
        assert report["remarks"] == [warning]
        assert warning in words
        assert "add prompts in other groups" in warning
        client = Client()
        client.force_login(admin.user)
        page = client.get(reverse("annotate:prompts", args=[admin.project.slug]))
        assert warning in page.content.decode()


def test_where_nothing_is_held_out_it_is_said_that_nothing_can_be_measured():
    admin = make_member(make_project(heldout_share=0.1), role="admin")
    _, report, _ = Api(admin).send(b'{"text": "One?", "group": "b"}')
    assert (report["train"], report["heldout"]) == (1, 0)
    assert report["remarks"] == [splits.warning(admin.project, train=1, heldout=0)]
    assert "evaluated" in report["remarks"][0]
    lines = b"\n".join(b'{"text": "Question %d?"}' % n for n in range(60))
    _, report, _ = Api(admin).send(lines)
    assert report["train"] + report["heldout"] == 60
    assert report["heldout"] > 0
    assert report["remarks"] == []


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("prompts-one-system-turn.jsonl", {"prompts": 20, "with_system": 1}),
        (
            "prompts-two-users-in-a-row.jsonl",
            {"prompts": 2, "with_two_users_in_a_row": 1, "beginning_with_assistant": 1},
        ),
    ],
)
def test_another_app_may_remark_on_the_roles_and_orders_of_an_import(importer, monkeypatch, name, shape):
    asked = []

    def answer(project, shapes):
        asked.append((project, {key: value for key, value in vars(shapes).items() if value}))
        return ["This model's template knows no such turn."]

    monkeypatch.setattr(hooks, "_trainer", replace(hooks._trainer, prompts_remarks=answer))
    _, report, words = importer.send(case(name))
    assert asked == [(importer.project, shape)]
    assert report["remarks"][-1] == "This model's template knows no such turn."
    assert "This model's template knows no such turn." in words


def test_empty_system_turns_and_control_characters_are_reported_and_glue_no_words(importer):
    turns = [{"role": "system", "content": ""}, {"role": "user", "content": "a\x0bb\r\nc\td\u200f"}]
    _, report, words = importer.send(json.dumps({"messages": turns}).encode())
    assert importer.project.prompts.get().messages == [{"role": "user", "content": "a b\nc\td\u200f"}]
    assert (report["empty_system_turns"], report["control_characters"]) == (1, 1)
    assert "1 empty system turn was left out." in words
    assert "1 control character was replaced with white space." in words


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32-be", "latin-1"])
def test_another_encoding_refuses_the_file_and_takes_nothing_of_it(file_importer, encoding):
    lines = '{"text": "Plain?"}\n' * 3 + '{"text": "Où?"}\n'
    status, _, words = file_importer.send(lines.encode(encoding))
    assert status in (400, 422)
    assert "looks like" in words
    assert "Nothing was added" in words
    assert not Prompt.objects.exists()


def test_halves_of_pairs_and_nul_are_refused_by_line(importer):
    lines = [b'{"text": "Good?"}', b'{"text": "a\\ud800b"}', b'{"text": "a\\u0000b"}', b'{"text": "Good, too?"}']
    _, report, _ = importer.send(b"\n".join(lines))
    assert report["created"] == 2
    assert [row["line"] for row in report["rejected"]] == [2, 3]
    assert all("cannot be stored" in row["error"] for row in report["rejected"])


def test_limits_of_a_conversation_are_named(importer):
    turn = {"role": "user", "content": "x"}
    lines = [
        {"messages": [turn, {"role": "user", "content": "y" * 100_001}]},
        {"messages": [turn] * 501},
        {"text": "m"} | dict.fromkeys(map(str, range(1000))),
        {"text": "m", "metadata": {"a": json.loads("[" * 30 + "]" * 30)}},
    ]
    _, report, _ = importer.send(b"\n".join(json.dumps(line).encode() for line in lines))
    said = [row["error"] for row in report["rejected"]]
    assert said[0].startswith("Turn 2: The text has 100001 characters; at most 100000 are allowed.")
    assert "501 turns; at most 500 are allowed" in said[1]
    assert "1001 fields; at most 1000 are allowed" in said[2]
    assert "at most 20 levels" in said[3]


def test_the_report_stops_after_a_hundred_lines_and_counts_the_rest(importer):
    data = b"\n".join(b"nonsense" if n % 2 else b'{"text": "Question %d?"}' % n for n in range(500))
    data = b'{"text": "One first?"}\n' + data
    _, report, words = importer.send(data)
    assert (report["created"], report["rejected_count"]) == (251, 250)
    assert [row["line"] for row in report["rejected"]] == list(range(3, 203, 2))
    assert "250" in words


def test_refusals_of_reader_and_database_stand_in_the_order_of_their_lines(importer):
    importer.send(b'{"text": "One?", "external_id": "1"}')
    taken = b'{"text": "Other?", "external_id": "1"}'
    _, report, _ = importer.send(b"\n".join([b'{"text": "Two?"}', taken, b"nonsense", taken]))
    assert [row["line"] for row in report["rejected"]] == [2, 3, 4]


def test_a_broken_list_keeps_what_is_in_and_adds_nothing_twice(importer):
    whole = json.dumps([{"text": f"Question {n}?"} for n in range(1200)]).encode()
    status, report, words = importer.send(whole[: len(whole) // 2])
    assert status == 200
    assert 590 < report["created"] < 610
    assert f"Invalid JSON in item {report['created'] + 1}" in report["stopped"]
    assert report["stopped"] in words
    _, again, _ = importer.send(whole)
    assert again["created"] + again["existing"] == 1200
    assert again["existing"] == report["created"]
    assert importer.project.prompts.count() == 1200


def test_a_withdrawn_prompt_that_comes_again_is_reported(importer):
    importer.send(b'{"text": "One?"}')
    prompts.withdraw(Prompt.objects.get(), actor=importer.admin.user)
    _, report, words = importer.send(b'{"text": "One?"}')
    assert (report["existing"], report["withdrawn"]) == (1, 1)
    assert "1 of the existing prompts is withdrawn" in words


def test_a_file_above_the_limit_is_refused_with_the_limit(admin, monkeypatch):
    monkeypatch.setattr(prompt_forms, "LARGEST_FILE_MB", 1)
    monkeypatch.setattr(parsers, "LARGEST_MB", 1)
    data = b'{"text": "%s"}\n' % (b"x" * 90_000) * 12
    status, _, words = Form(admin).send(data)
    assert (status, "larger than 1 MB" in words) == (422, True)
    status, _, words = Api(admin).send(data)
    assert (status, "larger than 1 MB" in words) == (413, True)
    assert not Prompt.objects.exists()


def test_an_upload_that_lies_on_disk_is_read_like_one_in_memory(admin, settings):
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 10
    for name in ("prompts-array.json", "prompts-fold-together.jsonl"):
        status, report, _ = Form(admin).send(case(name))
        assert (status, report["rejected"]) == (200, [])
    assert admin.project.prompts.count() == 13


def test_a_body_that_breaks_off_is_not_taken_for_a_short_one(admin):
    data = b'{"text": "One?"}\n' * 3
    client = Client(headers=bearer(admin.user))
    address = reverse("annotate-api:prompts", args=[admin.project.slug])
    more = {"wsgi.input": io.BytesIO(data), "CONTENT_LENGTH": str(len(data) + 10)}
    answer = client.post(address, data, content_type="application/x-ndjson", **more)
    assert (answer.status_code, "is incomplete" in answer.json()["detail"]) == (400, True)
    assert not Prompt.objects.exists()


def test_a_paste_and_a_file_at_once_are_asked_about(client, admin):
    client.force_login(admin.user)
    file = SimpleUploadedFile("prompts.jsonl", b'{"text": "One?"}')
    page = client.post(reverse("annotate:add-prompts", args=[admin.project.slug]), {"paste": "Two?", "file": file})
    assert page.status_code == 422
    assert "not both" in page.content.decode()


def test_a_question_that_only_looks_a_little_like_json_stays_a_question(client, admin):
    client.force_login(admin.user)
    paste = '{"name": 1} is what?\n[1, 2] is what?'
    client.post(reverse("annotate:add-prompts", args=[admin.project.slug]), {"paste": paste})
    assert {prompt.question for prompt in Prompt.objects.all()} == set(paste.split("\n"))


@examples(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(
    data=st.binary(max_size=200)
    | st.dictionaries(
        st.sampled_from(["text", "messages", "external_id", "group", "metadata", "x"]),
        st.recursive(st.none() | st.integers() | st.floats() | st.text(max_size=9), st.lists, max_leaves=4),
    ).map(lambda body: json.dumps(body).encode())
)
def test_any_bytes_are_answered_without_a_crash(file_importer, data):
    status, _, _ = file_importer.send(data)
    assert status in (200, 400, 422)


def peak_memory(project, lines: int) -> int:
    """Bytes, at most, while `lines` lines are imported as the API and the form do it: from a file on disk."""
    mixed = [b"nonsense\n" if n % 10 else b'{"text": "Question %d?", "x": 1}\n' % n for n in range(1000)]
    with tempfile.TemporaryFile() as file:
        for _ in range(lines // 1000):
            file.writelines(mixed)
        file.seek(0)
        tracemalloc.start()
        report = prompts.add(project, sources.read(file).records)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert report.created + report.existing + report.rejected_count == lines
    return peak


@pytest.mark.slow
def test_memory_stays_flat_however_long_a_file_is(project):
    peak_memory(project, 1000)  # which adds the prompts
    few, many = peak_memory(project, 10_000), peak_memory(project, 100_000)
    assert many < few * 1.3 + 1_000_000


class Endless(io.RawIOBase):
    """A request's body that is made as it is read."""

    def __init__(self, size: int) -> None:
        self.left = size

    def read(self, size: int = -1) -> bytes:
        line = b'{"text": "Question?", "x": "' + b"y" * 9_969 + b'"}\n'
        part = min(self.left, max(size, 0) // 10_000 * 10_000 or 10_000)
        self.left -= part
        return line * (part // 10_000)


def test_a_large_body_is_not_held_in_memory(admin):
    client = Client(headers=bearer(admin.user))
    address = reverse("annotate-api:prompts", args=[admin.project.slug])
    size = 40_000_000
    more = {"wsgi.input": Endless(size), "CONTENT_LENGTH": str(size)}
    tracemalloc.start()
    answer = client.post(address, b"x", content_type="application/x-ndjson", **more)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (answer.status_code, answer.json()["created"], answer.json()["existing"]) == (200, 1, 3_999)
    assert peak < 12_000_000
