"""What there is to do for a member, and when there is nothing, why and when that changes."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from django.db.models import Count
from django.utils.translation import gettext as _

from annotate.models import Assignment, Kind, Member, WorkItem
from annotate.services import queue

RECENT = 50  # labels that the usual time is taken from
Status = WorkItem.Status


@dataclass(frozen=True)
class Work:
    """One kind of work, as one member sees it."""

    kind: Kind
    waiting: int  # items the member could be given now; what is held comes on top
    held: Assignment | None  # what the member has in hand
    reason: str  # why there is nothing; empty when there is something
    median_seconds: int | None  # from claim to submission, of the member's last ones; None before the first


def overview(member: Member) -> list[Work]:
    """Both kinds of work for `member`, answers first."""
    return [_work(member, kind) for kind in Kind]


def reason_for_nothing(member: Member, kind: str) -> str:
    """Why `member` cannot be given work of `kind` now: about the queue, never about other people's names."""
    items = WorkItem.objects.filter(project=member.project_id, kind=kind)
    counts = dict(items.values_list("status").annotate(Count("pk")).order_by())
    if counts.get(Status.OPEN):
        return _("You have had everything that is waiting; the rest is wanted from other people.")
    if counts.get(Status.FULL):
        return _("Other people are working on what is left. Come back in an hour: what they leave is offered again.")
    if counts.get(Status.ESCALATED):
        return _("What is left was skipped by several people: a reviewer decides about it.")
    if kind == Kind.DEMONSTRATION:
        return _("All answers are written. More come with new prompts.") if counts else _("There are no prompts yet.")
    if counts:
        return _("All sets of answers are ranked. The next round brings new ones.")
    return _("There is nothing to rank yet: the first round writes the answers, once enough demonstrations are in.")


def _work(member: Member, kind: Kind) -> Work:
    held = Assignment.objects.filter(annotator=member, kind=kind, status=Assignment.Status.HELD).first()
    waiting = queue.waiting_for(member, kind).count()
    reason = "" if held or waiting else reason_for_nothing(member, kind)
    return Work(kind=kind, waiting=waiting, held=held, reason=reason, median_seconds=_median_seconds(member, kind))


def _median_seconds(member: Member, kind: Kind) -> int | None:
    submitted = Assignment.objects.filter(annotator=member, kind=kind, status=Assignment.Status.SUBMITTED)
    times = submitted.order_by("-claimed_at").values_list("claimed_at", "finished_at")[:RECENT]
    seconds = [(finished - claimed).total_seconds() for claimed, finished in times if finished]
    return round(median(seconds)) if seconds else None
