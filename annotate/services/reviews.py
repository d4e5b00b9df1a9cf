"""Reviews: a reviewer accepts a label or returns it with a comment. A correction is reviewed like a new label."""

from __future__ import annotations

from django.db import transaction
from django.db.models import QuerySet

from annotate import hooks
from annotate.models import LABELS, Label, Member, Project, Review, User, Verdict, WorkItem
from annotate.services import audit, queue


class OwnLabel(Exception):
    """Nobody reviews their own label."""


class Superseded(Exception):
    """The label was corrected in the meantime: the newer version is the one to review."""


def waiting(project: Project, kind: str, *, reviewer: Member | None) -> QuerySet[Label]:
    """Labels of `kind` that nobody has reviewed yet, oldest first, without those of `reviewer`."""
    labels = LABELS[kind].objects.filter(project=project).unreviewed()
    if reviewer:
        labels = labels.exclude(annotator=reviewer)
    return labels.order_by("pk")


def returning(label: Label) -> Review | None:
    """The newest review of `label`, if it returned the label. Asks nothing where the reviews were fetched before."""
    newest = max(label.reviews.all(), key=lambda review: review.pk, default=None)
    return newest if newest and newest.verdict == Verdict.RETURN else None


@transaction.atomic
def record(label: Label, *, reviewer: Member, verdict: str, comment: str = "") -> Review:
    """Store the verdict; the newest one of a label counts. Raises OwnLabel or Superseded.

    Models that a returned label helped to make are marked: it was not as it should be.
    """
    if label.annotator_id == reviewer.pk:
        raise OwnLabel
    if type(label).objects.corrections_of(label).exists():
        raise Superseded
    kind = str(label._meta.model_name)
    review = Review.objects.create(reviewer=reviewer, verdict=verdict, comment=comment, **{kind: label})
    if verdict == Verdict.RETURN:
        hooks.labels_withdrawn(kind, [label.pk])
    audit.record(f"{kind}.{verdict}ed", actor=reviewer.user, project=label.project, subject=str(label), comment=comment)
    return review


@transaction.atomic
def reopen(item: WorkItem, *, actor: User) -> None:
    """Put an escalated item back into the queue, for people who have not had it."""
    if queue.reopen(item):
        audit.record("item.reopened", actor=actor, project=item.project, subject=str(item))


@transaction.atomic
def withdraw(item: WorkItem, *, actor: User) -> None:
    """Take an escalated item out of the queue for good."""
    if queue.withdraw(WorkItem.objects.filter(pk=item.pk)):
        audit.record("item.withdrawn", actor=actor, project=item.project, subject=str(item))
