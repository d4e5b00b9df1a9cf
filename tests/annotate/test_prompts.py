"""Prompts come in by every door, once."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from time import perf_counter

import pytest
from django.db import IntegrityError, transaction

from annotate.models import AuditEvent, Kind, Prompt, Split, WorkItem
from annotate.services import prompts, work
from annotate.services.importing import sources
from annotate.services.importing.sources import Record
from annotate.services.splits import split_of
from tests.factories import make_assignment, make_project, make_prompt, make_slate

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def jsonl(*bodies: object) -> bytes:
    return b"\n".join(json.dumps(body).encode() for body in bodies)


def records(data: bytes) -> Iterator[Record]:
    return sources.read(io.BytesIO(data)).records


def add(project, *bodies: object) -> prompts.Imported:
    return prompts.add(project, prompts.records_from_list(bodies))


def test_bad_lines_are_reported_by_number_and_good_ones_kept(project):
    data = jsonl({"text": "One?"}, {"txt": "Two?"}) + b'\n\n{"text": "Three?"\n' + jsonl({"text": "Four?"})
    imported = prompts.add(project, records(data))
    assert (imported.created, imported.existing) == (2, 0)
    assert [rejected["line"] for rejected in imported.rejected] == [2, 4]
    assert all(rejected["error"] for rejected in imported.rejected)


SYSTEM, USER = ({"role": role, "content": role} for role in ("system", "user"))
NO_PROMPTS = [
    *("a string", 7, None, [], {}),
    *({"text": text} for text in ("", 3, None, "a\x00", "\ud800", "x" * 100_001)),
    *({"messages": messages} for messages in ([], "hi", ["hi"], [{"role": "user"}], [USER, SYSTEM, USER], [SYSTEM])),
    *({"messages": [{"role": role, "content": "hi"}]} for role in ("robot", "assistant", ["user"], None)),
    {"text": "a", "messages": [USER]},
    *({"text": "a", nearly: "b"} for nearly in ("external-id", "grup", "Group", "externalId", "meta_data")),
    *({"text": "a", "group": group} for group in (5, "g" * 201)),
    *({"text": "a", "metadata": metadata} for metadata in ([], "m", {"m": "m" * 10_000})),
]


@pytest.mark.parametrize("body", NO_PROMPTS)
def test_what_is_no_prompt_is_refused_with_a_sentence(project, body):
    imported = add(project, body)
    assert (imported.created, len(imported.rejected)) == (0, 1)
    assert imported.rejected[0]["error"]
    assert not Prompt.objects.exists()


def test_metadata_is_kept_as_far_as_a_database_can(project):
    lines = b'{"text": "One?", "metadata": {"a": "b\\u0000\\ud800", "huge": 1e999, "list": [1, null]}}'
    imported = prompts.add(project, records(lines))
    assert imported.changes == [
        "The metadata of 1 prompt had characters or numbers that cannot be stored; they were replaced."
    ]
    assert Prompt.objects.get().metadata == {"a": "b\ufffd\ufffd", "huge": None, "list": [1, None]}


def test_importing_again_adds_nothing(project):
    bodies = [{"text": "One?", "external_id": "1"}, {"text": "Two?"}, {"text": " Two? "}]
    assert add(project, *bodies).created == 3
    again = add(project, *bodies)
    assert (again.created, again.existing, again.rejected) == (0, 3, [])
    assert WorkItem.objects.count() == 3


def test_a_text_that_is_there_takes_the_external_id_that_it_lacks(project):
    add(project, {"text": "One?"}, {"text": "Two?"}, {"text": "Two?", "external_id": "2"})
    again = add(project, {"text": "One?", "external_id": "1"})
    assert (again.created, again.existing, again.rejected) == (0, 1, [])
    assert dict(Prompt.objects.values_list("external_id", "messages__0__content")) == {"1": "One?", "2": "Two?"}


def test_a_second_external_id_for_one_text_is_refused_by_line_and_not_lost_in_silence(project):
    lines = [{"text": "Same?", "external_id": "x1"}, {"text": "Same?", "external_id": "x2"}]
    for created in (1, 0):
        imported = add(project, *lines)
        assert (imported.created, imported.existing) == (created, 1 - created)
        assert [(bad["line"], "“x1”" in bad["error"]) for bad in imported.rejected] == [(2, True)]
    assert Prompt.objects.get().external_id == "x1"


def test_an_id_that_is_taken_in_the_same_file_is_given_to_no_other_text(project):
    add(project, {"text": "One?"})
    imported = add(project, {"text": "One?", "external_id": "1"}, {"text": "Two?", "external_id": "1"})
    assert [bad["line"] for bad in imported.rejected] == [2]
    assert Prompt.objects.get().external_id == "1"


def test_a_prompt_keeps_its_group_and_the_line_that_says_another_is_refused(project):
    grouped = [{"text": "One?", "group": "a"}, {"text": "Two?"}]
    add(project, *grouped)
    assert add(project, *grouped, {"text": "One?"}).rejected == []
    imported = add(project, {"text": "One?", "group": "b"}, {"text": "Two?", "group": "a", "external_id": "2"})
    assert [(bad["line"], "keeps its group" in bad["error"]) for bad in imported.rejected] == [(1, True), (2, True)]
    assert (imported.created, imported.existing) == (0, 0)
    assert not Prompt.objects.exclude(external_id=None).exists()


def test_an_external_id_keeps_its_text(project):
    add(project, {"text": "One?", "external_id": "1"})
    imported = add(project, {"text": "Another?", "external_id": "1"})
    assert (imported.created, len(imported.rejected)) == (0, 1)


def test_the_database_itself_refuses_a_doubled_prompt(project):
    prompt = make_prompt(project)
    prompt.pk = None
    with pytest.raises(IntegrityError), transaction.atomic():
        prompt.save(force_insert=True)


def test_two_projects_may_ask_the_same(project):
    add(project, {"text": "One?", "external_id": "1"})
    assert add(make_project(), {"text": "One?", "external_id": "1"}).created == 1


def test_a_line_of_a_paste_is_a_question(project):
    imported = prompts.add(project, prompts.records_from_paste("One?\r\n\n  Two?  \n"))
    assert imported.created == 2
    assert sorted(prompt.question for prompt in Prompt.objects.all()) == ["One?", "Two?"]


def test_a_conversation_keeps_its_turns(project):
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "How do I sleep?"},
    ]
    add(project, {"messages": turns, "metadata": {"kind": "sleep"}})
    assert Prompt.objects.get().messages == turns
    assert Prompt.objects.get().metadata == {"kind": "sleep"}


def test_demonstrations_are_asked_for_train_prompts_only():
    project = make_project(heldout_share=0.5)
    add(project, *({"text": f"Question {n}?"} for n in range(40)))
    held_out = Prompt.objects.filter(split=Split.HELDOUT)
    assert 5 < held_out.count() < 35
    assert not WorkItem.objects.filter(prompt__in=held_out).exists()
    assert WorkItem.objects.filter(kind=Kind.DEMONSTRATION).count() == 40 - held_out.count()


def test_prompts_of_one_group_share_a_split_in_every_project():
    for project in (make_project(heldout_share=0.5), make_project(heldout_share=0.5)):
        for group in "abcdefgh":
            add(project, *({"text": f"{group} {n}?", "group": group} for n in range(5)))
    splits = set(Prompt.objects.values_list("group", "split"))
    assert len(splits) == 8
    assert {split for _group, split in splits} == set(Split.values)


def test_a_tenth_of_all_groups_is_held_out():
    splits = [split_of(f"group {n}", 0.1) for n in range(10_000)]
    assert 900 < splits.count(Split.HELDOUT) < 1_100


def test_a_withdrawn_prompt_leaves_both_queues_and_that_is_written_down(admin):
    prompt = make_prompt(admin.project)
    make_slate(admin.project, prompt=prompt)
    prompts.withdraw(prompt, actor=admin.user)
    for kind in Kind:
        assert work.claim(admin.project, annotator=admin, kind=kind).assignment is None
    assert prompt.withdrawn_at
    assert AuditEvent.objects.get().action == "prompt.withdrawn"


def test_work_in_hand_survives_the_withdrawal(annotator, admin):
    held = make_assignment(annotator, Kind.DEMONSTRATION)
    prompts.withdraw(held.item.prompt, actor=admin.user)
    assert work.claim(annotator.project, annotator=annotator, kind=Kind.DEMONSTRATION).assignment == held


@pytest.mark.slow
def test_ten_thousand_prompts_come_in_within_seconds(project):
    data = jsonl(*({"text": f"Question {n}?", "external_id": str(n)} for n in range(10_000)))
    started = perf_counter()
    assert prompts.add(project, records(data)).created == 10_000
    assert perf_counter() - started < 30
