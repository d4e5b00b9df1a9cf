"""The queue: which item comes next for whom, and where an item stands. Who holds it: annotate.services.work.

A position is the wall clock in nanoseconds: "last" needs no counter that everybody would have to lock. A clock that
jumps costs order, never work, because a search that finds nothing starts again at the front.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from django.db.models import BooleanField, Case, F, Func, Value, When
from django.db.models.expressions import Combinable

from annotate.models import Assignment, Kind, Member, Project, Prompt, QueueCursor, Slate, WorkItem
from annotate.models.work import WorkItemQuerySet

SKIPS_TO_ESCALATE = 3
Status = WorkItem.Status


def open_items(project: Project, kind: Kind, subjects: Sequence[Prompt | Slate], *, priority: int = 0) -> None:
    """Put one item for each of `subjects` (prompts to answer or slates to rank) at the end of its priority."""
    if not subjects:
        return
    position = _last_position()
    subject_name = "prompt" if kind == Kind.DEMONSTRATION else "slate"
    seats = project.demonstration_seats if kind == Kind.DEMONSTRATION else project.ranking_seats
    WorkItem.objects.bulk_create(
        WorkItem(
            project=project,
            kind=kind,
            seats=seats,
            priority=priority,
            position=position + index,
            **{subject_name: subject},
        )
        for index, subject in enumerate(subjects)
    )
    # A search that stands behind a worse priority would reach the new items only after it has wrapped.
    QueueCursor.objects.filter(member__project=project, kind=kind, priority__gt=priority).update(
        priority=priority, position=position - 1
    )


def next_item(cursor: QueueCursor, *, annotator: Member) -> WorkItem | None:
    """The first open item after `cursor` that `annotator` has never had, locked; the search wraps once."""
    items = WorkItem.objects.filter(project=annotator.project_id, kind=cursor.kind)
    unseen = items.waiting_for([annotator]).order_by("priority", "position")
    passing = unseen.select_for_update(skip_locked=True)
    ahead = _after(cursor.priority, cursor.position)
    # Last of all, wait for what others are taking right now: a seat of it may be left.
    return passing.filter(ahead).first() or passing.exclude(ahead).first() or unseen.select_for_update().first()


def take_seat(item: WorkItem) -> int:
    """Count one more seat of the locked `item` as taken; returns its number."""
    seat = 1
    if item.seats_taken:
        seated = item.assignments.filter(status__in=Assignment.SEATED).values_list("seat", flat=True)
        seat = min(set(range(1, item.seats + 1)) - set(seated))
    item.seats_taken += 1
    item.status = Status.FULL if item.seats_taken == item.seats else Status.OPEN
    WorkItem.objects.filter(pk=item.pk).update(seats_taken=item.seats_taken, status=item.status)
    return seat


def fill_seat(item_pk: int) -> None:
    """Count the label of one taken seat as submitted; the item is done with the last one."""
    WorkItem.objects.filter(pk=item_pk).update(
        submitted_count=F("submitted_count") + 1,
        status=Case(
            When(status__in=[Status.OPEN, Status.FULL], submitted_count__gte=F("seats") - 1, then=Value(Status.DONE)),
            default=F("status"),
        ),
    )


def free_seat(item_pk: int, *, skipped: bool = False) -> None:
    """One seat is free again: the item is offered after all others, or escalates when enough people skipped it."""
    reopened: Combinable = Value(Status.OPEN)
    if skipped:
        escalates = When(skipped_count__gte=SKIPS_TO_ESCALATE - 1, then=Value(Status.ESCALATED))
        reopened = Case(escalates, default=Value(Status.OPEN))
    WorkItem.objects.filter(pk=item_pk).update(
        seats_taken=F("seats_taken") - 1,
        skipped_count=F("skipped_count") + int(skipped),
        position=_last_position(),
        status=Case(When(status__in=[Status.OPEN, Status.FULL], then=reopened), default=F("status")),
    )


def reopen(item: WorkItem) -> bool:
    """Offer an escalated item again, to people who have not had it. False: it is not escalated any more."""
    escalated = WorkItem.objects.filter(pk=item.pk).escalated()
    return bool(escalated.update(status=Status.OPEN, skipped_count=0, position=_last_position()))


def withdraw(items: WorkItemQuerySet) -> int:
    """Give `items` to no one any more. Who holds a seat may still submit. Returns how many were not finished."""
    return items.unfinished().update(status=Status.WITHDRAWN)


def _last_position() -> int:
    """A position behind all that exist."""
    return time.time_ns()


def _after(priority: int, position: int) -> Func:
    # A row value, since only this form of the comparison starts inside the index on both databases.
    return Func(
        Func(F("priority"), F("position"), template="(%(expressions)s)"),
        Func(Value(priority), Value(position), template="(%(expressions)s)"),
        template="%(expressions)s",
        arg_joiner=" > ",
        output_field=BooleanField(),
    )
