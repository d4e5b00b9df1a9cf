"""Reviews: a reviewer accepts a label or returns it with a comment. A correction is reviewed like a new label."""

from __future__ import annotations

from django.db import transaction
from django.db.models import Case, QuerySet, Value, When
from django.urls import reverse
from django.utils.text import Truncator
from django.utils.translation import gettext as _

from annotate import hooks
from annotate.models import LABELS, Assignment, Kind, Label, Member, Project, Review, User, Verdict, WorkItem
from annotate.services import audit, notices, queue

ReviewState = Assignment.ReviewState
REVIEWED = {Verdict.ACCEPT.value: ReviewState.ACCEPTED, Verdict.RETURN.value: ReviewState.RETURNED}
TOLD_COMMENT = 300  # characters of a comment in a notice; the page that it opens has all of it


class OwnLabel(Exception):
    """No one reviews their own label."""


class Superseded(Exception):
    """The label was corrected in the meantime: the newer version is the one to review."""


class AlreadyReviewed(Exception):
    """The label was reviewed in the meantime: the reviewer has not seen the newest verdict."""


def waiting(project: Project, kind: str, *, reviewer: Member | None) -> QuerySet[Label]:
    """Labels of `kind` that no one has reviewed yet, oldest first, without those of `reviewer`."""
    labels = LABELS[kind].objects.filter(project=project).unreviewed()
    if reviewer:
        labels = labels.exclude(annotator=reviewer)
    return labels.order_by("pk")


def newest_review(label: Label) -> Review | None:
    """The review of `label` that counts. Asks nothing where the reviews were fetched before."""
    newest: Review | None = max(label.reviews.all(), key=lambda review: review.pk, default=None)
    return newest


@transaction.atomic
def record(label: Label, *, reviewer: Member, verdict: str, comment: str = "", seen: int | None = None) -> Review:
    """Store the verdict; the newest one of a label counts. Raises OwnLabel, Superseded or AlreadyReviewed.

    `seen` is the id of the newest review that the reviewer has seen, None where there was none. The author of a
    returned label is told. Models that it helped to make are marked: it was not as it should be.
    """
    if label.annotator_id == reviewer.pk:
        raise OwnLabel
    # The row that a correction writes to as well: one submitted at this moment comes before this, or after it.
    piece = Assignment.objects.filter(pk=label.assignment_id)
    piece.select_for_update(no_key=True).get()
    if type(label).objects.corrections_of(label).exists():
        raise Superseded
    newest = newest_review(label)
    if newest and newest.pk != seen:
        if (newest.reviewer_id, newest.verdict, newest.comment) == (reviewer.pk, verdict, comment):
            return newest  # the button was pressed twice
        raise AlreadyReviewed
    kind = str(label._meta.model_name)
    review = Review.objects.create(reviewer=reviewer, verdict=verdict, comment=comment, **{kind: label})
    piece.update(review_state=REVIEWED[verdict])
    if verdict == Verdict.RETURN:
        hooks.labels_withdrawn(kind, [label.pk])
        _tell_author(label, kind, comment)
    audit.record(f"{kind}.{verdict}ed", actor=reviewer.user, project=label.project, subject=str(label), comment=comment)
    return review


def await_review(correction: Label) -> None:
    """`correction` waits for a review, as the label did that it supersedes.

    Called inside the transaction that stores it.
    """
    came_back = When(review_state__in=[ReviewState.RETURNED, ReviewState.CORRECTED], then=Value(ReviewState.CORRECTED))
    state = Case(came_back, default=Value(ReviewState.WAITING))
    Assignment.objects.filter(pk=correction.assignment_id).update(review_state=state)


def _tell_author(label: Label, kind: str, comment: str) -> None:
    text = (
        _("Your ranking was returned: “%(comment)s”")
        if kind == Kind.RANKING
        else _("Your answer was returned: “%(comment)s”")
    )
    notices.tell_member(
        label.annotator,
        kind="label.returned",
        text=text % {"comment": Truncator(" ".join(comment.split())).chars(TOLD_COMMENT)},
        address=reverse("annotate:correct", args=[kind, label.pk]),
    )


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
