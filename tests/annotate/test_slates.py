"""Slates come in, and nothing about them tells who wrote what."""

from __future__ import annotations

import pytest

from annotate.models import Completion, Kind, Prompt, Slate, WorkItem
from annotate.services import prompts, slates, work
from annotate.services.slates import BadSlate, NewCompletion, NewSlate
from annotate.services.text import BadText
from tests.factories import make_member, make_project, make_prompt, make_slate

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def texts(*said: str) -> list[NewCompletion]:
    return [NewCompletion(text) for text in said]


def test_completions_are_returned_in_the_order_given(project):
    added = slates.add(project, prompt=make_prompt(project), completions=texts(*"abcdefghi"))
    assert [completion.text for completion in added.completions] == list("abcdefghi")
    assert all(completion.pk for completion in added.completions)


def test_ids_do_not_order_by_author(project):
    prompt = make_prompt(project)
    new = [NewSlate(prompt, texts("newest policy", "its parent")) for _ in range(200)]
    first = [min(added.completions, key=lambda c: c.pk).text for added in slates.add_many(project, new)]
    assert 60 < first.count("newest policy") < 140


def test_ids_of_a_slate_lie_together(project):
    added = slates.add_many(project, [NewSlate(make_prompt(project), texts(*"abc")) for _ in range(3)])
    spans = [sorted(completion.pk for completion in completions) for _slate, completions in added]
    assert [pk for span in spans for pk in span] == sorted(Completion.objects.values_list("pk", flat=True))


@pytest.mark.parametrize("number", [0, 1, 10])
def test_a_slate_holds_two_to_nine_completions(project, number):
    with pytest.raises(BadSlate, match=f"not {number}"):
        slates.add(project, prompt=make_prompt(project), completions=texts(*"abcdefghij"[:number]))
    assert not Slate.objects.exists()
    assert not WorkItem.objects.filter(kind=Kind.RANKING).exists()


def test_one_bad_slate_keeps_the_others_out(project):
    prompt = make_prompt(project)
    with pytest.raises(BadText):
        slates.add_many(project, [NewSlate(prompt, texts("a", "b")), NewSlate(prompt, texts("a", "\x00"))])
    assert not Slate.objects.exists()


def test_an_unknown_prompt_is_added_with_its_slate_or_not_at_all(project):
    slates.add_with_prompt(project, record={"text": "New?"}, completions=texts("a", "b"))
    with pytest.raises(BadSlate):
        slates.add_with_prompt(project, record={"text": "Newer?"}, completions=texts("a"))
    with pytest.raises(prompts.BadRecord):
        slates.add_with_prompt(project, record={"question": "Newest?"}, completions=texts("a", "b"))
    assert [prompt.question for prompt in Prompt.objects.all()] == ["New?"]


def test_a_withdrawn_prompt_takes_no_slates(admin):
    prompt = make_prompt(admin.project)
    prompts.withdraw(prompt, actor=admin.user)
    with pytest.raises(BadSlate, match="withdrawn"):
        make_slate(admin.project, prompt=prompt)


def test_slates_are_opened_for_held_out_prompts_too():
    project = make_project(heldout_share=0.5)
    prompts.add(project, prompts.records_from_paste("\n".join(f"{n}?" for n in range(20))))
    slates.add_many(project, [NewSlate(prompt, texts("a", "b")) for prompt in project.prompts.all()])
    assert WorkItem.objects.filter(kind=Kind.RANKING).count() == 20


def test_withdrawn_slates_leave_the_queue_and_ranked_ones_stay_done(project):
    done, wanted = make_slate(project), make_slate(project)
    WorkItem.objects.filter(slate=done).update(status="done", seats_taken=1, submitted_count=1)
    assert slates.withdraw(project.slates.all()) == 1
    wanted.work_item.refresh_from_db()
    assert wanted.work_item.status == "withdrawn"
    assert work.claim(project, annotator=make_member(project), kind=Kind.RANKING).assignment is None
