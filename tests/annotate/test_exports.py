"""Labels leave as files: nothing of them is missing, each line says what it is worth, and nobody is named."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from annotate import hooks
from annotate.models import AuditEvent, Kind, Member, Project, Ranking, Verdict
from annotate.services import demonstrations, prompts, rankings, reviews, slates, work
from annotate.services.exporting import records, selection
from annotate.services.exporting.exports import KINDS, Export
from annotate.services.exporting.selection import Labels, Selection
from annotate.services.people import members
from annotate.services.slates import NewCompletion
from annotate.services.text import MESSAGE_LIMIT
from tests.factories import bearer, make_demonstration, make_member, make_project, make_ranking, make_slate

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def lines(project: Project, kind: str, labels: str = Labels.CURRENT) -> list[dict[str, Any]]:
    file = b"".join(Export(kind, "jsonl", Selection(project, labels)).pieces())
    return [json.loads(line) for line in file.decode().split("\n")[:-1]]


def table(project: Project, kind: str) -> list[dict[str, str]]:
    file = b"".join(Export(kind, "csv", Selection(project)).pieces())
    return list(csv.DictReader(io.StringIO(file.decode("utf-8-sig"), newline="")))


def rank(annotator: Member, texts: list[str], places: list[int | None], **said: Any) -> Ranking:
    """A ranking of a slate with `texts`; what is said goes to them in their order."""
    prompt, _report = prompts.add_one(annotator.project, {"text": f"Question {uuid4()}?", "external_id": str(uuid4())})
    added = slates.add(annotator.project, prompt=prompt, completions=[NewCompletion(text) for text in texts])
    assignment = work.claim(annotator.project, annotator=annotator, kind=Kind.RANKING).assignment
    pks = [completion.pk for completion in added.completions]
    said = {
        name: {pk: each for pk, each in zip(pks, value, strict=True) if each} if name != "note" else value
        for name, value in said.items()
    }
    return rankings.submit(assignment, submission_id=uuid4(), places=dict(zip(pks, places, strict=True)), **said)


def test_a_demonstration_is_its_conversation_with_the_answer_at_the_end(project: Project, annotator: Member) -> None:
    turns = [{"role": role, "content": role} for role in ("system", "user", "assistant", "user")]
    prompts.add_one(
        project, {"messages": turns, "external_id": "faq-1", "group": "faq", "metadata": {"from": ["mail"]}}
    )
    assignment = work.claim(project, annotator=annotator, kind=Kind.DEMONSTRATION).assignment
    label = demonstrations.submit(assignment, submission_id=uuid4(), text="Rest.", flags=["short"], note="Why?")
    (line,) = lines(project, "demonstrations")
    assert line == {
        "demonstration_id": label.pk,
        "prompt_id": label.prompt_id,
        "messages": [*turns, {"role": "assistant", "content": "Rest."}],
        "external_id": "faq-1",
        "group": "faq",
        "metadata": '{"from": ["mail"]}',
        "split": "train",
        "annotator": records.pseudonym(annotator.pk),
        "is_simulated": False,
        "is_extra": False,
        "is_current": True,
        "supersedes": 0,
        "review": "",
        "left_out": "",
        "flags": '["short"]',
        "note": "Why?",
        "created_at": label.created_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }


def test_a_ranking_keeps_every_answer_with_all_that_was_said_of_it(project: Project, annotator: Member) -> None:
    label = rank(annotator, ["a", "b", "c"], [2, 1, None], ratings=[3, 7, None], flags=[["rude"], [], []], note="b!")
    (line,) = lines(project, "rankings")
    said = {one["text"]: one for one in line["completions"]}
    assert [(said[text]["place"], said[text]["rating"], said[text]["flags"]) for text in "abc"] == [
        (2, 3, '["rude"]'),
        (1, 7, "[]"),
        (None, 0, "[]"),
    ]
    order = sorted(line["completions"], key=lambda one: one["letter"])
    assert [one["completion_id"] for one in order] == label.assignment.card_order
    assert {(one["written_by"], one["round"], one["finish_reason"]) for one in said.values()} == {
        ("elsewhere", 0, "stop")
    }
    assert (line["ranking_id"], line["slate_id"], line["note"]) == (label.pk, label.slate_id, "b!")
    assert line["prompt"] == label.slate.prompt.messages


def test_comparisons_are_the_pairs_that_a_ranking_decides(project: Project, annotator: Member) -> None:
    rank(annotator, ["best", "tied", "also", "unjudged"], [1, 2, 2, None])
    pairs = lines(project, "comparisons")
    assert [pair["chosen"] for pair in pairs] == [[{"role": "assistant", "content": "best"}]] * 2
    assert sorted(pair["rejected"][0]["content"] for pair in pairs) == ["also", "tied"]
    assert {(pair["chosen_place"], pair["rejected_place"]) for pair in pairs} == {(1, 2)}
    (ranking,) = lines(project, "rankings")
    assert {pair["ranking_id"] for pair in pairs} == {ranking["ranking_id"]}
    ids = {one["completion_id"]: one["text"] for one in ranking["completions"]}
    assert {(ids[pair["chosen_id"]], ids[pair["rejected_id"]]) for pair in pairs} == {
        ("best", "tied"),
        ("best", "also"),
    }


def test_prompts_and_completions_say_what_was_withdrawn(project: Project, annotator: Member, admin: Member) -> None:
    withdrawn, kept = make_slate(project), make_slate(project)
    prompts.withdraw(withdrawn.prompt, actor=admin.user)
    by_prompt = {line["prompt_id"]: line["left_out"] for line in lines(project, "prompts")}
    assert by_prompt == {withdrawn.prompt_id: "withdrawn", kept.prompt_id: ""}
    written = lines(project, "completions")
    assert len(written) == 6
    assert {(line["slate_id"], line["left_out"]) for line in written} == {(withdrawn.pk, "withdrawn"), (kept.pk, "")}
    for kind, number in (("prompts", 1), ("completions", 3)):
        assert len(lines(project, kind, Labels.TRAINABLE)) == number


@pytest.mark.parametrize(("kind", "make"), [("demonstrations", make_demonstration), ("rankings", make_ranking)])
def test_each_label_says_whether_it_trains_and_why_not(
    project: Project, annotator: Member, reviewer: Member, admin: Member, kind: str, make: Any
) -> None:
    kept, first, returned, withdrawn = (make(annotator) for _ in range(4))
    newer = correct(first)
    reviews.record(kept, reviewer=reviewer, verdict=Verdict.ACCEPT)
    reviews.record(returned, reviewer=reviewer, verdict=Verdict.RETURN, comment="Why?")
    prompts.withdraw((withdrawn.prompt if kind == "demonstrations" else withdrawn.slate.prompt), actor=admin.user)
    simulated = make(make_member(project, is_simulated=True))
    key = f"{kind[:-1]}_id"
    said = {line[key]: (line["left_out"], line["review"]) for line in lines(project, kind)}
    assert said == {
        kept.pk: ("", "accept"),
        newer.pk: ("", ""),
        returned.pk: ("returned", "return"),
        withdrawn.pk: ("withdrawn", ""),
        simulated.pk: ("simulated", ""),
    }
    assert {line[key] for line in lines(project, kind, Labels.TRAINABLE)} == {kept.pk, newer.pk}
    versions = {line[key]: line for line in lines(project, kind, Labels.ALL)}
    assert versions.keys() == said.keys() | {first.pk}
    assert (versions[first.pk]["is_current"], versions[first.pk]["left_out"]) == (False, "superseded")
    assert (versions[newer.pk]["is_current"], versions[newer.pk]["supersedes"]) == (True, first.pk)
    assert {pk for pk, line in versions.items() if line["is_simulated"]} == {simulated.pk}


def correct(label: Any) -> Any:
    if isinstance(label, Ranking):
        places = dict.fromkeys(label.assignment.card_order, 1)
        return rankings.correct(label, annotator=label.annotator, submission_id=uuid4(), places=places)
    return demonstrations.correct(label, annotator=label.annotator, submission_id=uuid4(), text="Drink water.")


def test_held_out_labels_say_so(annotator: Member) -> None:
    project = make_project(heldout_share=0.5)
    member = make_member(project)
    for _ in range(12):
        make_ranking(member)
    splits = {line["ranking_id"]: line["split"] for line in lines(project, "rankings")}
    assert splits == {label.pk: label.slate.prompt.split for label in Ranking.objects.select_related("slate__prompt")}
    assert set(splits.values()) == {"train", "heldout"}


def test_a_person_has_one_pseudonym_in_a_project_and_no_name(project: Project, annotator: Member) -> None:
    elsewhere = make_member(make_project(), user=annotator.user)
    make_demonstration(annotator)
    make_ranking(annotator)
    make_ranking(make_member(project))
    make_ranking(elsewhere)
    (mine,) = {line["annotator"] for line in lines(project, "demonstrations")}
    both = [line["annotator"] for line in lines(project, "rankings")]
    assert mine in both
    assert len(set(both)) == 2
    assert [line["annotator"] for line in lines(elsewhere.project, "rankings")] != [mine]
    assert mine.startswith("person-")
    for kind in KINDS:
        text = json.dumps(lines(project, kind, Labels.ALL))
        assert annotator.user.email not in text


def test_a_pseudonym_cannot_be_worked_out_without_the_key(settings: Any) -> None:
    before = records.pseudonym(1)
    settings.SECRET_KEY = "another key, and fifty characters long or even longer"
    assert records.pseudonym(1) != before


def test_labels_of_people_who_were_erased_stay(project: Project, annotator: Member, admin: Member) -> None:
    make_demonstration(annotator)
    make_ranking(annotator)
    make_ranking(make_member(project))
    members.erase(annotator, actor=admin.user)
    for labels in Labels.values:
        assert [len(lines(project, kind, labels)) for kind in ("demonstrations", "rankings", "comparisons")] == [
            0,
            1,
            3,
        ]


def test_nothing_of_another_project_gets_into_a_file(project: Project) -> None:
    other = make_member()
    make_demonstration(other)
    make_ranking(other)
    assert [kind for kind in KINDS if lines(project, kind, Labels.ALL)] == []


@pytest.mark.parametrize("kind", KINDS)
def test_lines_and_tables_have_the_same_columns_empty_or_not(project: Project, annotator: Member, kind: str) -> None:
    empty = b"".join(Export(kind, "csv", Selection(project)).pieces()).decode("utf-8-sig")
    assert empty.strip().split(",") == list(records.COLUMNS[kind])
    make_demonstration(annotator)
    make_ranking(annotator)
    (made, *_) = KINDS[kind](Selection(project))
    assert made.keys() == set(records.COLUMNS[kind])
    assert [*lines(project, kind)[0]] == [*table(project, kind)[0]] == list(records.COLUMNS[kind])


def test_no_cell_of_a_table_is_a_formula_and_each_can_be_read_back(project: Project, annotator: Member) -> None:
    typed = ["=1+1", "+1", "-1", "@SUM(A1)", "＝1", "'tis so", 'plain, "quoted"\nand on two lines', "\tx", "\nx"]
    for text in typed:
        rank(annotator, ["a", "b"], [1, 2], note=text)
    notes = [row["note"] for row in table(project, "rankings")]
    assert [note for note in notes if note.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝"))] == []
    assert [note.removeprefix("'") for note in notes] == typed
    for row in table(project, "rankings"):
        assert json.loads(row["completions"])[0]["place"] in (1, 2)
        assert row["is_current"] == "true"


def test_a_file_is_read_in_pieces_by_a_number_of_queries_that_grows_with_the_chunks_alone(
    project: Project, annotator: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        make_ranking(annotator)
    whole = lines(project, "rankings")
    with CaptureQueriesContext(
        connection,
    ) as one_chunk:
        lines(project, "rankings")
    make_ranking(annotator)
    with CaptureQueriesContext(connection) as with_one_more:
        lines(project, "rankings")
    assert len(one_chunk) == len(with_one_more)
    monkeypatch.setattr(selection, "ROWS", 2)
    assert lines(project, "rankings")[:4] == whole
    assert len(lines(project, "comparisons")) == 15
    assert len(lines(project, "completions")) == 15
    assert len(lines(project, "prompts")) == 5


@pytest.mark.parametrize(("kind", "format"), [("rankings", "jsonl"), ("comparisons", "jsonl"), ("rankings", "csv")])
def test_a_large_file_takes_no_more_memory_than_a_few_rows(
    project: Project, annotator: Member, monkeypatch: pytest.MonkeyPatch, kind: str, format: str
) -> None:
    for _ in range(60):
        rank(annotator, ["x" * MESSAGE_LIMIT, "y" * MESSAGE_LIMIT], [1, 2])
    monkeypatch.setattr(selection, "ROWS", 2)
    tracemalloc.start()
    size = sum(map(len, Export(kind, format, Selection(project)).pieces()))
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size > 60 * 2 * MESSAGE_LIMIT
    assert peak < size / 2  # most of it is the one piece, which is as long as a text at least


def test_what_comes_in_meanwhile_is_left_to_the_next_export(
    project: Project, annotator: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "ROWS", 1)
    first = [make_demonstration(annotator).pk for _ in range(3)]
    making = KINDS["demonstrations"](Selection(project))
    taken = [next(making)["demonstration_id"]]
    make_demonstration(annotator)
    taken += [line["demonstration_id"] for line in making]
    assert taken == first


def test_annotate_exports_with_nobody_who_trains(
    project: Project, annotator: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "_trainer", None)
    make_ranking(annotator)
    (line,) = lines(project, "rankings")
    assert {one["written_by"] for one in line["completions"]} == {"elsewhere"}
    assert hooks.frozen_labels(project) == []


def address(project: Project, kind: str = "rankings", query: str = "") -> str:
    return f"/api/v1/projects/{project.slug}/export/{kind}/{query}"


def test_the_api_hands_out_a_file_and_the_audit_says_who_took_it(
    client: Client, project: Project, annotator: Member, admin: Member
) -> None:
    make_ranking(annotator)
    headers = bearer(admin.user, "read")
    answer = client.get(address(project, query="?format=csv&labels=trainable"), headers=headers)
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert answer["Content-Disposition"] == f'attachment; filename="{project.slug}-rankings-trainable.csv"'
    assert b"".join(answer.streaming_content).startswith(b"\xef\xbb\xbfranking_id,slate_id,")
    event = AuditEvent.objects.get(action="labels.exported")
    assert (event.actor, event.project, event.subject) == (admin.user, project, "rankings")
    assert event.detail == {"format": "csv", "labels": "trainable"}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?format=xls", "format"),
        ("?labels=best", "labels"),
        ("?snapshot=7", "snapshot"),
        ("?snapshot=last", "snapshot"),
        ("?only=trainable", "only"),
    ],
)
def test_what_cannot_be_exported_is_refused_by_its_name(
    client: Client, project: Project, admin: Member, query: str, field: str
) -> None:
    answer = client.get(address(project, query=query), headers=bearer(admin.user))
    assert (answer.status_code, [*answer.json()["errors"]]) == (400, [field])
    assert not AuditEvent.objects.filter(action="labels.exported").exists()


def test_there_is_no_export_of_what_does_not_exist(client: Client, project: Project, admin: Member) -> None:
    assert client.get(address(project, "weights"), headers=bearer(admin.user)).status_code == 404
    client.force_login(admin.user)
    assert client.get(f"/projects/{project.slug}/export/weights/").status_code == 404


def test_the_page_counts_what_each_file_holds_and_links_to_it(
    client: Client, project: Project, annotator: Member, admin: Member, reviewer: Member
) -> None:
    label = make_demonstration(annotator)
    make_demonstration(annotator)
    make_ranking(annotator)
    reviews.record(label, reviewer=reviewer, verdict=Verdict.RETURN, comment="Why?")
    client.force_login(admin.user)
    answer = client.get(f"/projects/{project.slug}/export/?scope=trainable")
    counts = {file.kind: file.count for file in answer.context["files"]}
    assert counts == {"demonstrations": 1, "rankings": 1, "comparisons": None, "prompts": 3, "completions": 3}
    link = f"/projects/{project.slug}/export/demonstrations/?format=jsonl&amp;labels=trainable"
    assert link in answer.content.decode()
    file = client.get(link.replace("&amp;", "&"))
    assert len(b"".join(file.streaming_content).splitlines()) == 1
    assert AuditEvent.objects.get(action="labels.exported").actor == admin.user


def test_the_page_says_what_is_wrong_with_an_address(client: Client, project: Project, admin: Member) -> None:
    client.force_login(admin.user)
    answer = client.get(f"/projects/{project.slug}/export/rankings/?snapshot=9")
    assert answer.status_code == 422
    assert "Round 9 has no snapshot." in answer.content.decode()
    assert client.get(f"/projects/{project.slug}/export/?scope=round-9").status_code == 422
