"""Handing out work: one behaviour a test. Races and costs have their own files."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
import time_machine
from django.utils import timezone

from annotate.models import Assignment, Kind, Member, Ranking, WorkItem
from annotate.services import demonstrations, queue, rankings, slates, work
from annotate.services.text import MESSAGE_LIMIT, BadText
from tests.factories import make_assignment, make_member, make_project, make_prompt, make_slate

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def claim(annotator: Member, kind: str = Kind.RANKING) -> Assignment:
    assignment = work.claim(annotator.project, annotator=annotator, kind=kind).assignment
    assert assignment is not None
    return assignment


def submit(assignment: Assignment) -> Ranking:
    return rankings.submit(
        assignment, submission_id=uuid4(), places={pk: 1 + n for n, pk in enumerate(assignment.card_order)}
    )


def state(assignment: Assignment) -> tuple[str, int, int]:
    item = WorkItem.objects.get(pk=assignment.item_id)
    return item.status, item.seats_taken, item.submitted_count


def test_a_second_claim_returns_the_assignment_already_held(project, annotator):
    make_slate(project)
    make_slate(project)
    assert claim(annotator) == claim(annotator)


def test_the_two_kinds_of_work_can_be_held_side_by_side(project, annotator):
    make_slate(project)
    assert claim(annotator).kind == Kind.RANKING
    assert claim(annotator, Kind.DEMONSTRATION).kind == Kind.DEMONSTRATION


def test_items_come_in_the_order_of_arrival_and_a_lower_priority_first(project, annotator):
    late = make_slate(project, priority=1)
    first, second = make_slate(project), make_slate(project)
    seen = []
    for _ in range(3):
        assignment = claim(annotator)
        seen.append(assignment.item.slate)
        submit(assignment)
    assert seen == [first, second, late]


def test_new_slates_with_a_better_priority_come_before_what_the_cursor_has_reached(annotator):
    old = [make_slate(annotator.project) for _ in range(3)]
    submit(claim(annotator))
    new = make_slate(annotator.project, priority=-1)
    assert claim(annotator).item.slate == new
    submit(claim(annotator))
    assert claim(annotator).item.slate == old[1]


def test_an_item_is_wanted_from_as_many_different_people_as_it_has_seats(project):
    project = make_project(ranking_seats=2)
    make_slate(project)
    people = [make_member(project) for _ in range(3)]
    assert [claim(person).seat for person in people[:2]] == [1, 2]
    assert work.claim(project, annotator=people[2], kind=Kind.RANKING).assignment is None


def test_an_item_is_done_when_its_last_seat_is_submitted(project):
    project = make_project(ranking_seats=2)
    make_slate(project)
    first, second = (claim(make_member(project)) for _ in range(2))
    submit(first)
    assert state(first) == ("full", 2, 1)
    submit(second)
    assert state(second) == ("done", 2, 2)


def test_a_skipped_item_goes_to_the_end_and_never_back_to_the_same_person(project, annotator):
    make_slate(project)
    make_slate(project)
    skipped = claim(annotator)
    work.skip(skipped, reason="Not my field")
    submit(claim(annotator))
    assert work.claim(project, annotator=annotator, kind=Kind.RANKING).assignment is None
    assert claim(make_member(project)).item_id == skipped.item_id


def test_a_skip_needs_a_reason(annotator):
    assignment = make_assignment(annotator)
    with pytest.raises(BadText):
        work.skip(assignment, reason="  ")
    assert state(assignment) == ("full", 1, 0)


def test_an_item_skipped_by_three_people_escalates_and_can_be_reopened(project):
    make_slate(project)
    for _ in range(3):
        assignment = claim(make_member(project))
        work.skip(assignment, reason="Unreadable")
    assert state(assignment) == ("escalated", 0, 0)
    assert "reviewer" in work.claim(project, annotator=make_member(project), kind=Kind.RANKING).reason
    assert queue.reopen(assignment.item)
    assert claim(make_member(project)).item_id == assignment.item_id


def test_a_seat_of_a_silent_holder_is_given_to_the_next_person(project, annotator):
    silent = make_assignment(annotator)
    with time_machine.travel(timezone.now() + work.LEASE + timedelta(seconds=1)):
        other = claim(make_member(project))
    silent.refresh_from_db()
    assert (silent.status, silent.seat) == ("expired", None)
    assert other.item_id == silent.item_id


def test_an_autosave_keeps_the_seat_for_another_lease(project, annotator):
    assignment = make_assignment(annotator)
    start = timezone.now()
    with time_machine.travel(start + timedelta(minutes=50), tick=False):
        work.save_draft(assignment, draft={"note": "hm"}, version=0)
    with time_machine.travel(start + timedelta(minutes=109), tick=False):
        assert work.expire_leases() == 0
    with time_machine.travel(start + timedelta(minutes=111), tick=False):
        assert work.expire_leases() == 1


def test_who_comes_back_before_anybody_noticed_goes_on_with_the_same_piece(annotator):
    assignment = make_assignment(annotator)
    with time_machine.travel(timezone.now() + timedelta(hours=2)):
        again = claim(annotator)
        assert again == assignment
        assert again.lease_until > timezone.now()


def test_leases_end_at_most_twenty_at_a_time(project):
    for _ in range(23):
        make_assignment(make_member(project))
    with time_machine.travel(timezone.now() + timedelta(hours=2)):
        assert [work.expire_leases() for _ in range(3)] == [20, 3, 0]


def test_a_late_submission_becomes_an_extra_judgement(project, annotator):
    late = make_assignment(annotator)
    with time_machine.travel(timezone.now() + timedelta(hours=2)):
        in_time = claim(make_member(project))
        submit(late)
        submit(in_time)
    late.refresh_from_db()
    assert (late.status, late.is_extra, late.seat) == ("submitted", True, None)
    assert state(late) == ("done", 1, 1)
    assert Ranking.objects.count() == 2


@pytest.mark.parametrize("ending", ["skip", "release"])
def test_what_was_given_back_cannot_be_submitted(annotator, ending):
    assignment = make_assignment(annotator)
    work.skip(assignment, reason="No") if ending == "skip" else work.release(assignment)
    with pytest.raises(work.NotHolder):
        submit(assignment)
    assert not Ranking.objects.exists()
    assert state(assignment) == ("open", 0, 0)


def test_a_stale_draft_is_refused_and_shows_what_is_stored(annotator):
    assignment = make_assignment(annotator)
    work.save_draft(assignment, draft={"note": "first window"}, version=0)
    with pytest.raises(work.StaleDraft) as refusal:
        work.save_draft(assignment, draft={"note": "second window"}, version=0)
    assert refusal.value.stored.draft == {"note": "first window"}
    assert refusal.value.stored.draft_version == 1


def test_repeating_a_save_whose_answer_got_lost_is_harmless(annotator):
    assignment = make_assignment(annotator)
    for _ in range(2):
        assert work.save_draft(assignment, draft={"note": "once"}, version=0).draft_version == 1


def test_a_draft_is_kept_whatever_characters_stand_in_it(annotator):
    assignment = make_assignment(annotator)
    stored = work.save_draft(assignment, draft={"note": "a\x00b\ud800c", "places": {"1": 2}}, version=0)
    assert stored.draft == {"note": "a\ufffdb\ufffdc", "places": {"1": 2}}


def test_a_draft_is_kept_whole_or_refused(annotator):
    assignment = make_assignment(annotator, Kind.DEMONSTRATION)
    longest = "x" * MESSAGE_LIMIT
    assert work.save_draft(assignment, draft={"text": longest}, version=0).draft == {"text": longest}
    with pytest.raises(BadText, match="Shorten"):
        work.save_draft(assignment, draft={"text": longest + "y"}, version=1)
    assignment.refresh_from_db()
    assert (assignment.draft, assignment.draft_version) == ({"text": longest}, 1)


def test_an_expired_holder_keeps_the_text(annotator):
    assignment = make_assignment(annotator, Kind.DEMONSTRATION)
    with time_machine.travel(timezone.now() + timedelta(hours=2)):
        work.expire_leases()
        stored = work.save_draft(assignment, draft={"text": "Take a rest"}, version=0)
        assert stored.status == "expired"
        demonstrations.submit(assignment, submission_id=uuid4(), text="Take a rest")


def test_a_draft_of_something_handed_in_is_refused(annotator):
    assignment = make_assignment(annotator)
    submit(assignment)
    with pytest.raises(work.NotHolder, match="already submitted"):
        work.save_draft(assignment, draft={}, version=0)


def test_a_withdrawn_item_is_handed_to_nobody_but_its_holder_may_finish(project, annotator):
    held = make_assignment(annotator)
    slates.withdraw(project.slates.all())
    assert work.claim(project, annotator=make_member(project), kind=Kind.RANKING).assignment is None
    submit(held)
    assert state(held) == ("withdrawn", 1, 1)


def test_everybody_has_an_own_order_of_cards_that_stays(project):
    project = make_project(ranking_seats=9)
    make_slate(project, completions=9)
    orders = [claim(make_member(project)).card_order for _ in range(6)]
    assert len({tuple(order) for order in orders}) > 1
    assert all(sorted(order) == sorted(orders[0]) for order in orders)
    assert [a.card_order for a in Assignment.objects.order_by("pk")] == orders


def test_work_of_another_project_is_not_handed_out(annotator):
    make_slate(make_project())
    assert work.claim(annotator.project, annotator=annotator, kind=Kind.RANKING).assignment is None


def test_one_question_is_one_prompt_to_answer(project, annotator):
    prompt = make_prompt(project)
    assert claim(annotator, Kind.DEMONSTRATION).item.prompt == prompt
