"""Handing out work: who holds which seat, for how long, with which draft.

Written for many people at once. A status changes by a conditional UPDATE whose row count says who won; locks are
always taken in the order member's cursor, assignments, items. Nothing here needs the broker.
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import Case, DateTimeField, DurationField, ExpressionWrapper, F, Value, When
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce
from django.db.models.lookups import LessThan
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.models import Assignment, Completion, Member, Project, QueueCursor, WorkItem
from annotate.models.work import REASON_LIMIT, AssignmentQuerySet
from annotate.services import overview, queue
from annotate.services.text import clean_draft, clean_filled_text

LEASE = timedelta(minutes=60)  # after the last autosave
# Active time is the sum of the gaps between claim, saved drafts and the end, each counted up to this: a longer
# pause is taken for an absence.
LONGEST_PAUSE = timedelta(minutes=5)
Status = Assignment.Status


class NotHolder(Exception):
    """The assignment is not in this person's hands any more; the message says what became of it."""


class OtherBody(Exception):
    """The submission id is known with other contents, or the label has been corrected in the meantime."""


class StaleDraft(Exception):
    """Another window saved in the meantime: `stored` holds what."""

    def __init__(self, stored: Assignment) -> None:
        super().__init__(_("Another window saved a different version in the meantime."))
        self.stored = stored


class Claim(NamedTuple):
    """An assignment, or the sentence that says why there is none."""

    assignment: Assignment | None
    reason: str


def claim(project: Project, *, annotator: Member, kind: str) -> Claim:
    """The piece of `kind` that `annotator` already holds, else the next one from the queue."""
    expire_leases(except_of=annotator)
    with transaction.atomic():
        # The cursor's row makes two claims of one person wait for each other.
        cursor, _is_new = QueueCursor.objects.select_for_update().get_or_create(
            member=annotator, kind=kind, defaults={"priority": -(2**31), "position": 0}
        )
        if held := _held(annotator, kind):
            return Claim(held, "")
        if item := queue.next_item(cursor, annotator=annotator):
            QueueCursor.objects.filter(pk=cursor.pk).update(priority=item.priority, position=item.position)
            return Claim(_assign(project, item, annotator), "")
    return Claim(None, overview.reason_for_nothing(annotator, kind))


def save_draft(assignment: Assignment, *, draft: dict[str, Any], version: int) -> Assignment:
    """Keep `draft`, if `version` is the one it was written over; a held seat stays so for another LEASE.

    A draft that says nothing (any more) is none. Repeating a save whose answer got lost is harmless. Raises StaleDraft,
    NotHolder or BadText.
    """
    now, cleaned = timezone.now(), clean_draft(draft)
    kept = cleaned if _says_something(cleaned) else None
    mine = Assignment.objects.writable().filter(pk=assignment.pk, draft_version=version)
    saved = mine.update(
        draft=kept,
        draft_version=version + 1,
        draft_saved_at=now,
        active_time=_active_time(now),
        lease_until=Case(When(status=Status.HELD, then=Value(now + LEASE)), default=F("lease_until")),
    )
    stored = Assignment.objects.select_related("item", "annotator").get(pk=assignment.pk)
    if saved or (stored.draft_version == version + 1 and stored.draft == kept):
        return stored
    if stored.status not in Assignment.WRITABLE:
        raise NotHolder(_why_not_held(stored))
    raise StaleDraft(stored)


@transaction.atomic
def skip(assignment: Assignment, *, reason: str) -> None:
    """Give the seat back for good, saying why. Raises NotHolder or BadText."""
    reason = clean_filled_text(reason, limit=REASON_LIMIT)
    _leave(assignment, Status.SKIPPED, skip_reason=reason)
    queue.free_seat(assignment.item_id, skipped=True)


@transaction.atomic
def release(assignment: Assignment) -> None:
    """Give the seat back without a judgement about the item. Raises NotHolder."""
    _leave(assignment, Status.RELEASED)
    queue.free_seat(assignment.item_id)


def close_seat(assignment: Assignment) -> None:
    """The label is in: for the seat, or as an extra judgement when the lease had ended. Raises NotHolder.

    The label holds the text now, so the draft is dropped. Called inside the transaction that stores the label.
    """
    now = timezone.now()
    mine = Assignment.objects.filter(pk=assignment.pk)
    handed_in = {
        "status": Status.SUBMITTED,
        "review_state": Assignment.ReviewState.WAITING,
        "finished_at": now,
        "active_time": _active_time(now),
        "draft": None,
        "draft_saved_at": None,
    }
    if mine.held().update(**handed_in):
        queue.fill_seat(assignment.item_id)
    elif not mine.filter(status=Status.EXPIRED).update(**handed_in, is_extra=True):
        raise NotHolder(_why_not_held(Assignment.objects.get(pk=assignment.pk)))


def expire_leases(*, limit: int = 20, except_of: Member | None = None) -> int:
    """Free the seats of holders who have been silent for a LEASE, the longest silence first; returns how many.

    Their drafts stay, and what they submit later still counts as an extra label. `except_of` is active right now.
    """
    overdue = Assignment.objects.overdue()
    if except_of:
        overdue = overdue.exclude(annotator=except_of)
    # Asked before a transaction begins: most sweeps find nothing, and on SQLite a transaction makes writers wait.
    return _expire(overdue, limit) if overdue.exists() else 0


def _says_something(draft: dict[str, Any]) -> bool:
    """Whether anything was typed or placed in `draft`."""
    return any(value.strip() if isinstance(value, str) else value for value in draft.values())


def _why_not_held(assignment: Assignment) -> str:
    """The sentence for a person who wants to go on with an assignment that is over."""
    return {
        Status.SUBMITTED: _("This was already submitted. You can correct it in “My work”."),
        Status.SKIPPED: _("You have skipped this."),
        Status.RELEASED: _("This was returned to the queue."),
    }.get(Status(assignment.status), _("This is no longer assigned to you."))


def _active_time(now: datetime) -> Combinable:
    """The active time of the row that is being updated, with the gap that ends `now`."""
    last = Coalesce("draft_saved_at", "claimed_at")
    gap = ExpressionWrapper(Value(now, DateTimeField()) - last, DurationField())
    is_pause = When(LessThan(last, now - LONGEST_PAUSE), then=Value(LONGEST_PAUSE, DurationField()))
    return Coalesce("active_time", Value(timedelta(), DurationField())) + Case(is_pause, default=gap)


@transaction.atomic
def _expire(overdue: AssignmentQuerySet, limit: int) -> int:
    ended = list(overdue.select_for_update(skip_locked=True).values_list("pk", "item")[:limit])
    items = [item_pk for _pk, item_pk in ended]
    # In one order: two sweeps that free seats of the same items must not wait for each other.
    list(WorkItem.objects.select_for_update().filter(pk__in=items).order_by("pk").values_list("pk"))
    now = timezone.now()
    Assignment.objects.filter(pk__in=[pk for pk, _item in ended]).update(
        status=Status.EXPIRED, seat=None, finished_at=now
    )
    for item_pk in items:
        queue.free_seat(item_pk)
    return len(ended)


def _held(annotator: Member, kind: str) -> Assignment | None:
    """The held assignment of `annotator`, with a new lease if the old one ran out unnoticed."""
    mine = Assignment.objects.held().filter(annotator=annotator, kind=kind)
    held = mine.select_related("item__prompt", "item__slate__prompt").first()
    if held and held.lease_until < timezone.now():
        held.lease_until = timezone.now() + LEASE
        # A sweep may free the seat at this very moment; then it is submitted as an extra label.
        mine.filter(pk=held.pk).update(lease_until=held.lease_until)
    return held


def _assign(project: Project, item: WorkItem, annotator: Member) -> Assignment:
    now = timezone.now()
    return Assignment.objects.create(
        item=item,
        annotator=annotator,
        project=project,
        kind=item.kind,
        seat=queue.take_seat(item),
        claimed_at=now,
        lease_until=now + LEASE,
        card_order=_shuffled_completions(item),
    )


def _shuffled_completions(item: WorkItem) -> list[int]:
    if item.slate_id is None:
        return []
    pks = list(Completion.objects.filter(slate=item.slate_id).values_list("pk", flat=True))
    random.shuffle(pks)
    return pks


def _leave(assignment: Assignment, status: str, **changes: Any) -> None:
    held = Assignment.objects.held().filter(pk=assignment.pk)
    if not held.update(status=status, seat=None, finished_at=timezone.now(), **changes):
        raise NotHolder(_why_not_held(Assignment.objects.get(pk=assignment.pk)))
