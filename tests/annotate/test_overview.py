"""What is there for me; and if nothing, why."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from annotate.models import Assignment, Kind, WorkItem
from annotate.services import demonstrations, overview, work
from tests.factories import make_assignment, make_demonstration, make_member, make_project, make_prompt, make_slate

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def of_kind(member, kind=Kind.DEMONSTRATION) -> overview.Work:
    return next(row for row in overview.overview(member) if row.kind == kind)


def test_what_i_have_had_does_not_wait_for_me(annotator):
    for _ in range(3):
        make_prompt(annotator.project)
    assert of_kind(annotator).waiting == 3
    work.claim(annotator.project, annotator=annotator, kind=Kind.DEMONSTRATION)
    mine = of_kind(annotator)
    assert (mine.waiting, mine.held.kind, mine.reason) == (2, Kind.DEMONSTRATION, "")


def test_nothing_never_stands_without_a_reason(annotator):
    assert "no prompts yet" in of_kind(annotator).reason
    assert "nothing to rank yet" in of_kind(annotator, Kind.RANKING).reason


def test_finished_work_says_what_brings_more(project, annotator):
    make_demonstration(make_member(project))
    make_slate(project)
    WorkItem.objects.filter(kind=Kind.RANKING).update(status="done", seats_taken=1, submitted_count=1)
    WorkItem.objects.filter(kind=Kind.DEMONSTRATION).exclude(status="done").update(status="withdrawn")
    assert "All answers are written" in of_kind(annotator).reason
    assert "next round" in of_kind(annotator, Kind.RANKING).reason


def test_work_in_other_hands_says_so(project, annotator):
    make_assignment(make_member(project), Kind.DEMONSTRATION)
    assert "Other people are working" in of_kind(annotator).reason


def test_work_that_is_wanted_from_others_says_so():
    annotator = make_member(make_project(demonstration_seats=2))
    make_demonstration(annotator)
    assert "wanted from other people" in of_kind(annotator).reason


def test_the_usual_time_is_the_median_of_what_i_did(annotator):
    assert of_kind(annotator).median_seconds is None
    for seconds in (10, 20, 900):
        assignment = make_assignment(annotator, Kind.DEMONSTRATION)
        claimed = timezone.now() - timedelta(seconds=seconds)
        demonstrations.submit(assignment, submission_id=uuid4(), text="Rest.")
        Assignment.objects.filter(pk=assignment.pk).update(claimed_at=claimed)
    assert of_kind(annotator).median_seconds in (20, 21)
