"""What is there for me; and if nothing, why."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
import time_machine
from django.urls import reverse

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
    assignment = work.claim(annotator.project, annotator=annotator, kind=Kind.DEMONSTRATION).assignment
    work.save_draft(assignment, draft={"text": "Rest"}, version=0)
    mine = of_kind(annotator)
    assert (mine.waiting, mine.held, mine.reason) == (2, assignment, "")


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
    assert "needs labels from other people" in of_kind(annotator).reason


def hand_in(annotator, *pauses: timedelta) -> Assignment:
    """An answer, with a saved draft after each of `pauses` but the last, which ends with handing it in."""
    assignment = make_assignment(annotator, Kind.DEMONSTRATION)
    began = assignment.claimed_at
    with time_machine.travel(began, tick=False) as clock:
        for version, pause in enumerate(pauses[:-1]):
            clock.shift(pause)
            work.save_draft(assignment, draft={"text": f"Version {version}"}, version=version)
        clock.shift(pauses[-1])
        demonstrations.submit(assignment, submission_id=uuid4(), text="Rest.")
    assignment.refresh_from_db()
    return assignment


SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)


def test_the_usual_time_is_the_median_of_what_i_did_from_five_labels_on(annotator):
    for seconds in (10, 30, 20, 50):
        hand_in(annotator, seconds * SECOND)
        assert of_kind(annotator).median_seconds is None
    hand_in(annotator, 40 * SECOND)
    assert of_kind(annotator).median_seconds == 30
    assert of_kind(annotator, Kind.RANKING).median_seconds is None


def test_of_a_long_pause_only_the_first_minutes_are_time_at_work(annotator):
    assert hand_in(annotator, 20 * SECOND, 10 * SECOND, 5 * SECOND).active_time == 35 * SECOND
    assert hand_in(annotator, 20 * SECOND, HOUR / 2, 5 * SECOND).active_time == 25 * SECOND + work.LONGEST_PAUSE
    assert hand_in(annotator, HOUR / 2).active_time == work.LONGEST_PAUSE


def test_a_saved_draft_that_is_sent_twice_counts_once(annotator):
    assignment = make_assignment(annotator, Kind.DEMONSTRATION)
    with time_machine.travel(assignment.claimed_at + 20 * SECOND, tick=False) as clock:
        work.save_draft(assignment, draft={"text": "Rest."}, version=0)
        clock.shift(20 * SECOND)
        assert work.save_draft(assignment, draft={"text": "Rest."}, version=0).active_time == 20 * SECOND


@pytest.mark.parametrize("draft", [{"text": " \n"}, {"places": {}, "note": ""}, {}])
def test_what_was_only_looked_at_waits_and_is_not_in_my_hands(client, annotator, draft):
    assignment = make_assignment(annotator, Kind.DEMONSTRATION)
    work.save_draft(assignment, draft=draft, version=0)
    mine = of_kind(annotator)
    assert (mine.waiting, mine.held, mine.reason) == (1, None, "")
    client.force_login(annotator.user)
    assert "in progress" not in client.get(reverse("annotate:home")).content.decode()
    under_way = client.get(reverse("annotate:my-work", args=[annotator.project.slug]), {"show": "drafts"})
    assert under_way.context["pieces"] == []
    assert work.claim(annotator.project, annotator=annotator, kind=Kind.DEMONSTRATION).assignment == assignment


def test_what_was_begun_is_in_my_hands_until_all_of_it_is_taken_away(client, annotator):
    assignment = make_assignment(annotator, Kind.RANKING)
    first = assignment.card_order[0]
    work.save_draft(assignment, draft={"places": {str(first): None}, "note": ""}, version=0)
    assert of_kind(annotator, Kind.RANKING).held == assignment
    client.force_login(annotator.user)
    page = client.get(reverse("annotate:my-work", args=[annotator.project.slug]), {"show": "drafts"})
    assert [piece["assignment"] for piece in page.context["pieces"]] == [assignment]
    work.save_draft(assignment, draft={"places": {}, "note": ""}, version=1)
    assert of_kind(annotator, Kind.RANKING).held is None
