"""Which labels a round may train on, and why the others are left out."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest

from annotate.models import Demonstration, Label, LeftOut, Member, Project, Prompt, Ranking, Split
from annotate.services import demonstrations, prompts, rankings, reviews
from annotate.services.people import members
from tests.factories import make_demonstration, make_member, make_ranking

pytestmark = [pytest.mark.django_db, pytest.mark.database]
MAKERS: list[Callable[[Member], Label]] = [make_demonstration, make_ranking]


def correct(label: Label) -> Label:
    author, submission_id = label.annotator, uuid4()
    if isinstance(label, Demonstration):
        return demonstrations.correct(label, annotator=author, submission_id=submission_id, text="Since when?")
    places = dict.fromkeys(label.assignment.card_order, 1)
    return rankings.correct(label, annotator=author, submission_id=submission_id, places=places)


def give_back(label: Label, reviewer: Member) -> None:
    reviews.record(label, reviewer=reviewer, verdict="return", comment="Which house?")


def prompt_of(label: Label) -> Prompt:
    return label.prompt if isinstance(label, Demonstration) else label.slate.prompt


@pytest.mark.parametrize("make", MAKERS)
def test_every_label_trains_or_is_counted_under_one_reason(
    project: Project, annotator: Member, reviewer: Member, admin: Member, make: Callable[[Member], Label]
) -> None:
    kept, superseded, returned, withdrawn = (make(annotator) for _ in range(4))
    newer = correct(superseded)
    give_back(returned, reviewer)
    prompts.withdraw(prompt_of(withdrawn), actor=admin.user)
    make(make_member(project, is_simulated=True))
    forgotten = make_member(project)
    make(forgotten)
    members.erase(forgotten, actor=admin.user)
    labels = type(kept).objects.filter(project=project)
    assert list(labels.trainable().order_by("pk")) == [kept, newer]
    assert labels.count_left_out() == {
        LeftOut.SUPERSEDED: 1,
        LeftOut.RETURNED: 1,
        LeftOut.WITHDRAWN: 2,
        LeftOut.SIMULATED: 1,
    }
    assert labels.newest().count_left_out().total() + labels.trainable().count() == labels.newest().count()


def test_where_several_reasons_hold_the_first_one_counts(project: Project, reviewer: Member, admin: Member) -> None:
    simulated = make_member(project, is_simulated=True)
    label = make_demonstration(simulated)
    give_back(label, reviewer)
    prompts.withdraw(label.prompt, actor=admin.user)
    counts = []
    for _ in range(2):
        counts.append(Demonstration.objects.count_left_out())
        Project.objects.update(trains_on_simulated=True)
    assert counts == [{LeftOut.SIMULATED: 1}, {LeftOut.WITHDRAWN: 1}]


def test_a_returned_label_that_is_accepted_later_trains_again(annotator: Member, reviewer: Member) -> None:
    label = make_ranking(annotator)
    give_back(label, reviewer)
    assert Ranking.objects.count_left_out() == {LeftOut.RETURNED: 1}
    reviews.record(label, reviewer=reviewer, verdict="accept", seen=label.reviews.get().pk)
    assert list(Ranking.objects.trainable()) == [label]
    assert list(Ranking.objects.returned()) == []


@pytest.mark.parametrize("make", MAKERS)
def test_labels_stand_on_their_prompts_side_of_the_split(annotator: Member, make: Callable[[Member], Label]) -> None:
    label = make(annotator)
    labels = type(label).objects.all()
    assert list(labels.of_split(Split.TRAIN)) == [label]
    assert list(labels.of_split(Split.HELDOUT)) == []
