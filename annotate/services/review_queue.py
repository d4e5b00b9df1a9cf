"""What waits for reviewers: new labels, corrected labels, and items that too many people have skipped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median

from django.db.models import Count, Min, Window
from django.db.models.functions import RowNumber

from annotate.models import LABELS, Assignment, Kind, Label, Member, Project, Review, Role, WorkItem
from annotate.models.work import AssignmentQuerySet

MOST_COUNTED = 99  # labels waiting in one project; more are "99+"
RECENT = 50  # verdicts that the usual time is taken from
FEWEST = 5  # that make a time the usual one
LONGEST_PAUSE = timedelta(minutes=10)  # between two verdicts; a longer one starts another session
State = Assignment.ReviewState


@dataclass(frozen=True, kw_only=True)
class ReviewWork:
    """What waits in one project for one reviewer."""

    new: int = 0  # labels that no one has reviewed
    oldest: datetime | None = None  # when the first of them was submitted
    corrected: int = 0  # labels that were returned and submitted again
    escalated: int = 0  # items that too many people have skipped
    median_seconds: int | None = None  # from one verdict to the next; None before FEWEST of them


def review_work(members: Sequence[Member]) -> dict[int, ReviewWork]:
    """What waits for those of `members` who review, each in another project, by their ids; constant queries."""
    reviewers = [member for member in members if member.may(Role.REVIEWER)]
    if not reviewers:
        return {}
    projects = [member.project_id for member in reviewers]
    waiting = Assignment.objects.filter(project__in=projects).awaiting_review().exclude(annotator__in=members)
    counted = waiting.order_by().values_list("project", "review_state").annotate(Count("pk"), Min("finished_at"))
    labels = {(project, state): (number, oldest) for project, state, number, oldest in counted}
    items = WorkItem.objects.filter(project__in=projects, kind__in=Kind.values).escalated().order_by()
    escalated = dict(items.values_list("project").annotate(Count("pk")))
    seconds = _median_seconds(reviewers)
    found = {}
    for member in reviewers:
        new, oldest = labels.get((member.project_id, State.WAITING), (0, None))
        found[member.pk] = ReviewWork(
            new=new,
            oldest=oldest,
            corrected=labels.get((member.project_id, State.CORRECTED), (0, None))[0],
            escalated=escalated.get(member.project_id, 0),
            median_seconds=seconds.get(member.pk),
        )
    return found


def count_waiting(project: Project, *, reviewer: Member | None = None) -> int:
    """The labels that wait for `reviewer`, or for anyone; MOST_COUNTED + 1 stands for more."""
    waiting = Assignment.objects.filter(project=project).awaiting_review()
    if reviewer:
        waiting = waiting.exclude(annotator=reviewer)
    return waiting[: MOST_COUNTED + 1].count()


def next_label(project: Project, *, reviewer: Member | None, only_corrected: bool) -> Label | None:
    """The label that has waited longest for `reviewer`; None where none does."""
    waiting = Assignment.objects.awaiting_review().filter(
        project=project, review_state=State.CORRECTED if only_corrected else State.WAITING
    )
    return _newest_label(waiting.exclude(annotator=reviewer) if reviewer else waiting)


def _newest_label(waiting: AssignmentQuerySet) -> Label | None:
    piece = waiting.order_by("finished_at", "pk").first()
    if piece is None:
        return None
    label: Label | None = LABELS[piece.kind].objects.newest().filter(assignment=piece).first()
    return label


def _median_seconds(reviewers: Sequence[Member]) -> dict[int, int]:
    """The usual time from one verdict to the next within a session, by reviewer."""
    age = Window(RowNumber(), partition_by=["reviewer"], order_by="-pk")
    recent = Review.objects.filter(reviewer__in=reviewers).annotate(age=age).filter(age__lte=RECENT + 1)
    times: defaultdict[int, list[datetime]] = defaultdict(list)
    for reviewer, at in recent.values_list("reviewer", "created_at"):
        times[reviewer].append(at)
    found = {}
    for pk, moments in times.items():
        gaps = [late - early for early, late in pairwise(sorted(moments)) if late - early <= LONGEST_PAUSE]
        if len(gaps) >= FEWEST:
            found[pk] = round(median(gap.total_seconds() for gap in gaps))
    return found
