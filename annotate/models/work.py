"""The queue: what is to be judged, and who holds a seat of it.

Written by annotate.services.work and annotate.services.queue alone; annotate.services.labels adds the drafts of
corrections.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from django.db import models
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.models.completions import Slate
from annotate.models.members import Member
from annotate.models.people import User
from annotate.models.projects import Project
from annotate.models.prompts import Prompt

REASON_LIMIT = 300  # characters of the reason for a skip


class Kind(models.TextChoices):
    DEMONSTRATION = "demonstration", _("answer")
    RANKING = "ranking", _("ranking")


class WorkItemQuerySet(models.QuerySet["WorkItem"]):
    def for_user(self, user: User) -> WorkItemQuerySet:
        """Items of the projects in which `user` reviews; annotators meet items through assignments only."""
        return self.filter(project__in=Project.objects.reviewed_by(user))

    def of_kind(self, kind: str) -> WorkItemQuerySet:
        return self.filter(kind=kind)

    def waiting_for(self, members: Sequence[Member]) -> WorkItemQuerySet:
        """Open items that none of `members` has ever had."""
        had = Assignment.objects.filter(item=OuterRef("pk"), annotator__in=members)
        return self.filter(~Exists(had), status=WorkItem.Status.OPEN)

    def unfinished(self) -> WorkItemQuerySet:
        """Items that still need someone's label, or a reviewer's decision."""
        return self.filter(status__in=WorkItem.UNFINISHED)

    def escalated(self) -> WorkItemQuerySet:
        """Items that wait for a reviewer's decision."""
        return self.filter(status=WorkItem.Status.ESCALATED)


class WorkItem(models.Model):
    """One item, wanted from `seats` different people."""

    class Status(models.TextChoices):
        OPEN = "open", _("open")  # a seat is free
        FULL = "full", _("full")  # every seat is held or submitted, not all submitted
        DONE = "done", _("done")  # every seat is submitted
        ESCALATED = "escalated", _("escalated")  # skipped by several people: a reviewer decides
        WITHDRAWN = "withdrawn", _("withdrawn")

    UNFINISHED = (Status.OPEN, Status.FULL, Status.ESCALATED)

    project = models.ForeignKey(Project, models.PROTECT, related_name="work_items")
    kind = models.CharField(max_length=13, choices=Kind)
    prompt = models.OneToOneField(Prompt, models.PROTECT, null=True, blank=True, related_name="work_item")
    slate = models.OneToOneField(Slate, models.PROTECT, null=True, blank=True, related_name="work_item")
    seats = models.PositiveSmallIntegerField()
    seats_taken = models.PositiveSmallIntegerField(default=0)  # held or submitted
    submitted_count = models.PositiveSmallIntegerField(default=0)  # seats whose label is in; extras do not count
    skipped_count = models.PositiveSmallIntegerField(default=0)
    status = models.CharField(max_length=9, choices=Status, default=Status.OPEN)
    priority = models.IntegerField(default=0)  # lower comes first
    position = models.BigIntegerField()  # order within a priority; a reopened seat goes to the end
    created_at = models.DateTimeField(default=timezone.now)

    objects = WorkItemQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(kind__in=Kind.values), name="work_item_kind_known"),
            models.CheckConstraint(
                condition=Q(status__in=["open", "full", "done", "escalated", "withdrawn"]),
                name="work_item_status_known",
            ),
            models.CheckConstraint(
                condition=Q(kind="demonstration", prompt__isnull=False, slate__isnull=True)
                | Q(kind="ranking", slate__isnull=False, prompt__isnull=True),
                name="work_item_has_its_subject",
            ),
            models.CheckConstraint(
                condition=Q(seats_taken__gte=0) & Q(seats_taken__lte=F("seats")),
                name="work_item_seats_taken_within_seats",
            ),
            models.CheckConstraint(
                condition=Q(submitted_count__lte=F("seats_taken")), name="work_item_submitted_within_taken"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["project", "kind", "status", "priority", "position"], name="work_item_queue")
        ]

    def __str__(self) -> str:
        return f"{self.kind} item {self.pk}"

    @property
    def subject_prompt(self) -> Prompt:
        """The conversation that the work is about."""
        return self.slate.prompt if self.slate else self.prompt  # type: ignore[return-value]  # one of them is set


class AssignmentQuerySet(models.QuerySet["Assignment"]):
    def for_user(self, user: User) -> AssignmentQuerySet:
        """Assignments that `user` may see: their own, in projects where the membership lasts."""
        return self.filter(annotator__user=user, annotator__removed_at=None)

    def of_kind(self, kind: str) -> AssignmentQuerySet:
        return self.filter(kind=kind)

    def held(self) -> AssignmentQuerySet:
        """Assignments that someone holds."""
        return self.filter(status=Assignment.Status.HELD)

    def overdue(self) -> AssignmentQuerySet:
        """Held pieces whose lease has run out, the longest overdue first."""
        return self.held().filter(lease_until__lt=timezone.now()).order_by("lease_until")

    def writable(self) -> AssignmentQuerySet:
        """Assignments whose label may still be submitted: an expired holder keeps the text. Everything else is over."""
        return self.filter(status__in=Assignment.WRITABLE)

    def submitted(self) -> AssignmentQuerySet:
        return self.filter(status=Assignment.Status.SUBMITTED)

    def skipped(self) -> AssignmentQuerySet:
        return self.filter(status=Assignment.Status.SKIPPED)

    def awaiting_review(self) -> AssignmentQuerySet:
        """Pieces whose newest label waits for a reviewer; nobody needs to read those of withdrawn prompts."""
        waiting = self.filter(review_state__in=Assignment.AWAITING_REVIEW)
        return waiting.filter(item__prompt__withdrawn_at=None, item__slate__prompt__withdrawn_at=None)

    def returned(self) -> AssignmentQuerySet:
        """Pieces whose newest label a reviewer sent back: they wait for their author."""
        return self.filter(review_state=Assignment.ReviewState.RETURNED)

    def with_draft(self) -> AssignmentQuerySet:
        """Assignments with a draft that was not submitted: of a label, or of its correction.

        Those released when the membership ended have theirs, too, for who joins again; skipped ones have a list of
        their own.
        """
        return self.exclude(status=Assignment.Status.SKIPPED).filter(draft__isnull=False)


class Assignment(models.Model):
    """One person holding one seat of a work item for a while (a lease), with the draft."""

    class Status(models.TextChoices):
        HELD = "held", _("held")
        SUBMITTED = "submitted", _("submitted")
        SKIPPED = "skipped", _("skipped")
        RELEASED = "released", _("released")
        EXPIRED = "expired", _("expired")

    class ReviewState(models.TextChoices):
        NONE = "", _("no label")
        WAITING = "waiting", _("waits for review")
        CORRECTED = "corrected", _("returned and corrected: waits for review")
        ACCEPTED = "accepted", _("accepted")
        RETURNED = "returned", _("returned")

    SEATED = (Status.HELD, Status.SUBMITTED)
    WRITABLE = (Status.HELD, Status.EXPIRED)
    AWAITING_REVIEW = (ReviewState.WAITING, ReviewState.CORRECTED)

    item = models.ForeignKey(WorkItem, models.PROTECT, related_name="assignments")
    annotator = models.ForeignKey(Member, models.PROTECT, related_name="assignments")
    # Copies of the item's, so that the database can refuse two held pieces of one kind.
    project = models.ForeignKey(Project, models.PROTECT, related_name="+")
    kind = models.CharField(max_length=13, choices=Kind)
    seat = models.PositiveSmallIntegerField(null=True, blank=True)  # None: no seat (given back, or an extra judgement)
    is_extra = models.BooleanField(default=False)  # submitted after the lease had ended
    status = models.CharField(max_length=9, choices=Status, default=Status.HELD)
    claimed_at = models.DateTimeField(default=timezone.now)
    lease_until = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    # The review state of this assignment's newest label. The reviews say so as well, but every page counts this.
    review_state = models.CharField(max_length=9, choices=ReviewState, default=ReviewState.NONE, blank=True)
    skip_reason = models.CharField(max_length=REASON_LIMIT, blank=True)
    draft = models.JSONField(null=True, blank=True)  # what the page autosaves; after the label is in: of its correction
    draft_version = models.PositiveIntegerField(default=0)
    draft_saved_at = models.DateTimeField(null=True, blank=True)
    # How long the person has been at it: from the claim over each saved draft to the end, without the pauses; see
    # services.work. None: not measured.
    active_time = models.DurationField(null=True, blank=True)
    # Ranking only: completion ids in the order in which this person sees them, as letters A, B, C…
    card_order = models.JSONField(default=list, blank=True)

    objects = AssignmentQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["item", "annotator"], name="assignment_once_per_person"),
            models.UniqueConstraint(
                fields=["item", "seat"], condition=Q(status__in=["held", "submitted"]), name="assignment_one_per_seat"
            ),
            models.UniqueConstraint(
                fields=["project", "annotator", "kind"], condition=Q(status="held"), name="assignment_one_held_per_kind"
            ),
            models.CheckConstraint(
                condition=Q(status__in=["held", "submitted", "skipped", "released", "expired"]),
                name="assignment_status_known",
            ),
            models.CheckConstraint(
                condition=~Q(status="held") | Q(seat__isnull=False), name="assignment_held_has_a_seat"
            ),
            models.CheckConstraint(
                condition=Q(review_state__in=["", "waiting", "corrected", "accepted", "returned"]),
                name="assignment_review_state_known",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["status", "lease_until"], name="assignment_lease"),
            models.Index(fields=["annotator", "kind", "status", "claimed_at"], name="assignment_history"),
            models.Index(fields=["project", "review_state", "annotator", "finished_at"], name="assignment_to_review"),
            models.Index(fields=["project", "finished_at", "status", "annotator"], name="assignment_by_end"),
        ]

    def __str__(self) -> str:
        return f"assignment {self.pk}"


class QueueCursor(models.Model):
    """Where a member's next search of the queue starts, so that a fast annotator does not re-scan what is done."""

    member = models.ForeignKey(Member, models.CASCADE, related_name="queue_cursors")
    kind = models.CharField(max_length=13, choices=Kind)
    priority = models.IntegerField()
    position = models.BigIntegerField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["member", "kind"], name="queue_cursor_once_per_kind"),
        ]

    def __str__(self) -> str:
        return f"cursor of {self.member_id} at {self.priority}/{self.position}"
