"""What there is to do for a member, and when there is nothing, why and when that changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from django.db.models import Count, Window
from django.db.models.functions import RowNumber
from django.utils.translation import gettext as _

from annotate.models import Assignment, Kind, Member, WorkItem
from annotate.models.work import WorkItemQuerySet

RECENT = 50  # labels that the usual time is taken from
FEWEST = 5  # that make a time the usual one, and verdicts that make a share
Status = WorkItem.Status


@dataclass(frozen=True)
class Work:
    """One kind of work, as one member sees it."""

    kind: Kind
    waiting: int  # items the member could be given now, and one that was opened but not started; `held` is extra
    held: Assignment | None  # the item in progress: something in it was typed or ranked
    reason: str  # why there is nothing; empty when there is something
    median_seconds: int | None  # of active time, see services.work; None before FEWEST were submitted


def overview(member: Member) -> list[Work]:
    """Both kinds of work for `member`, answers first."""
    return overviews([member])[member.pk]


def overviews(members: Sequence[Member]) -> dict[int, list[Work]]:
    """The overview of each of `members`, each of another project, by their ids; the number of queries is constant."""
    items = WorkItem.objects.filter(project__in=[member.project_id for member in members], kind__in=Kind.values)
    queues, seconds = _statuses(items), _median_seconds(members)
    counted = items.waiting_for(members).order_by().values_list("project", "kind").annotate(Count("pk"))
    waiting = {(project_pk, kind): number for project_pk, kind, number in counted}
    assignments = Assignment.objects.held().filter(annotator__in=members)
    held = {(assignment.annotator_id, assignment.kind): assignment for assignment in assignments}
    return {
        member.pk: [
            _work(
                kind,
                waiting=waiting.get((member.project_id, kind), 0),
                held=held.get((member.pk, kind)),
                median_seconds=seconds.get((member.pk, kind)),
                queue_counts=queues[member.project_id, kind],
            )
            for kind in Kind
        ]
        for member in members
    }


def reason_for_nothing(member: Member, kind: str) -> str:
    """Why `member` cannot be given work of `kind` now: about the queue, never about other people's names."""
    items = WorkItem.objects.filter(project=member.project_id, kind=kind)
    return _reason(kind, _statuses(items)[member.project_id, kind])


def _reason(kind: str, counts: dict[str, int]) -> str:
    if counts.get(Status.OPEN):
        return _("You have done everything available to you. The rest needs labels from other people.")
    if counts.get(Status.FULL):
        return _(
            "Other people are working on the rest. Check back in an hour: anything they do not finish becomes "
            "available again."
        )
    if counts.get(Status.ESCALATED):
        return _("The rest was skipped by several people and is waiting for a reviewer.")
    if kind == Kind.DEMONSTRATION:
        return _("All answers are written. New prompts will bring more.") if counts else _("There are no prompts yet.")
    if counts:
        return _("All sets of answers are ranked. The next round will bring new ones.")
    return _("There is nothing to rank yet. The first round samples answers once people have written enough.")


def _work(
    kind: Kind, *, waiting: int, held: Assignment | None, median_seconds: int | None, queue_counts: dict[str, int]
) -> Work:
    if held and held.draft is None:
        held, waiting = None, waiting + 1
    reason = "" if held or waiting else _reason(kind, queue_counts)
    return Work(kind=kind, waiting=waiting, held=held, reason=reason, median_seconds=median_seconds)


def _statuses(items: WorkItemQuerySet) -> defaultdict[tuple[int, str], dict[str, int]]:
    """How many of `items` have which status, by project and kind."""
    counted = items.order_by().values_list("project", "kind", "status").annotate(Count("pk"))
    counts: defaultdict[tuple[int, str], dict[str, int]] = defaultdict(dict)
    for project_pk, kind, status, number in counted:
        counts[project_pk, kind][status] = number
    return counts


def _median_seconds(members: Sequence[Member]) -> dict[tuple[int, str], int]:
    """The usual active time over the RECENT last labels, by member and kind."""
    age = Window(RowNumber(), partition_by=["annotator", "kind"], order_by="-claimed_at")
    submitted = Assignment.objects.submitted().filter(annotator__in=members)
    recent = submitted.exclude(active_time=None).annotate(age=age).filter(age__lte=RECENT)
    seconds: defaultdict[tuple[int, str], list[float]] = defaultdict(list)
    for annotator_pk, kind, active_time in recent.values_list("annotator", "kind", "active_time"):
        assert active_time is not None  # left out above
        seconds[annotator_pk, kind].append(active_time.total_seconds())
    return {key: round(median(values)) for key, values in seconds.items() if len(values) >= FEWEST}
