"""What a claim costs: few statements, the same number in a long queue, and no walk over what is done."""

from __future__ import annotations

from time import process_time
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from annotate.models import Assignment, Kind, Member, WorkItem
from annotate.services import demonstrations, prompts, rankings, work
from tests.factories import make_member, make_project, make_slate

pytestmark = [pytest.mark.django_db, pytest.mark.database]
BUDGET = 14  # statements of a claim and its submission together, BEGIN, COMMIT and SAVEPOINT apart
LONG, SHORT = 20_000, 100


def statements(captured: CaptureQueriesContext) -> list[str]:
    words = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE", "ROLLBACK")
    return [query["sql"] for query in captured if not query["sql"].startswith(words)]


def claim_and_rank(annotator: Member) -> int:
    """How many statements the whole of it takes."""
    with CaptureQueriesContext(connection) as captured:
        assignment = work.claim(annotator.project, annotator=annotator, kind=Kind.RANKING).assignment
        assert assignment is not None
        places = {pk: 1 for pk in assignment.card_order}  # noqa: C420  (one place for all is a tie)
        rankings.submit(assignment, submission_id=uuid4(), places=places)
    return len(statements(captured))


def claim_and_write(annotator: Member) -> float:
    """Seconds of this process that the claim takes: waiting for a busy machine is not in it."""
    started = process_time()
    assignment = work.claim(annotator.project, annotator=annotator, kind=Kind.DEMONSTRATION).assignment
    seconds = process_time() - started
    assert assignment is not None
    demonstrations.submit(assignment, submission_id=uuid4(), text="Rest.")
    return seconds


def fill(items: int) -> Member:
    """An annotator in front of two-seat items, with all seats free."""
    project = make_project(demonstration_seats=2)
    prompts.add(project, prompts.records_from_list({"text": f"Question {n}?"} for n in range(items)))
    return make_member(project)


def submit_in_bulk(annotator: Member, until: int) -> None:
    """Make the first `until` items look submitted by `annotator`, without touching his cursor."""
    now = timezone.now()
    items = WorkItem.objects.filter(project=annotator.project, seats_taken=0).order_by("position")
    fresh = list(items[: until - annotator.assignments.count()])
    same = {"annotator": annotator, "project": annotator.project, "kind": Kind.DEMONSTRATION, "seat": 1}
    times = {"lease_until": now, "finished_at": now}
    Assignment.objects.bulk_create(Assignment(item=item, status="submitted", **same, **times) for item in fresh)
    items.filter(position__lte=fresh[-1].position).update(seats_taken=1, submitted_count=1)


@pytest.mark.parametrize("seats", [1, 2, 3])
def test_a_claim_and_its_submission_stay_within_the_budget(seats):
    project = make_project(ranking_seats=seats)
    people = [make_member(project) for _ in range(seats)]
    for _ in range(4):
        make_slate(project, completions=9)
    spent = [claim_and_rank(person) for _ in range(4) for person in people]
    assert max(spent[seats:]) <= BUDGET  # the first claim of a person also makes the cursor


def test_a_claim_that_wraps_stays_within_the_budget():
    project = make_project()
    skipper, annotator = make_member(project), make_member(project)
    for _ in range(3):
        make_slate(project)
    claim_and_rank(annotator)
    held = work.claim(project, annotator=skipper, kind=Kind.RANKING).assignment
    claim_and_rank(annotator)
    work.release(held)
    WorkItem.objects.filter(pk=held.item_id).update(position=0)  # behind the cursor
    assert claim_and_rank(annotator) <= BUDGET


def test_the_search_starts_inside_the_index():
    annotator = fill(2_000)
    claim_and_write(annotator)
    with CaptureQueriesContext(connection) as captured:
        work.claim(annotator.project, annotator=annotator, kind=Kind.DEMONSTRATION)
    (search,) = [sql for sql in statements(captured) if 'FROM "annotate_workitem"' in sql]
    explain = "EXPLAIN" if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN"
    with connection.cursor() as cursor:
        cursor.execute(f"{explain} {search}".replace("%", "%%"))
        plan = "\n".join(str(row[-1]) for row in cursor.fetchall())
    assert "work_item_queue" in plan, plan
    if connection.vendor == "postgresql":
        assert 'ROW(priority, "position") > ROW(' in plan.partition("Index Cond:")[2].partition("\n")[0], plan
        assert "Sort" not in plan, plan
    else:
        assert "(priority,position)>(?,?)" in plan, plan
        assert "TEMP B-TREE" not in plan, plan


@pytest.mark.slow
def test_a_fast_annotators_ten_thousandth_claim_costs_what_the_hundredth_did():
    annotator = fill(LONG)
    for _ in range(SHORT - 20):
        claim_and_write(annotator)
    early = [claim_and_write(annotator) for _ in range(40)]
    early_cost = cost_of_next(annotator)
    submit_in_bulk(annotator, LONG // 2)
    claim_and_write(annotator)  # walks over what was done without him, once
    late = [claim_and_write(annotator) for _ in range(40)]
    assert cost_of_next(annotator) == early_cost
    assert min(late) < 2 * min(early)


def cost_of_next(annotator: Member) -> int:
    with CaptureQueriesContext(connection) as captured:
        claim_and_write(annotator)
    return len(statements(captured))
