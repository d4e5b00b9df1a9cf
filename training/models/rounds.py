"""Rounds: a plan of stages that was agreed to before anything ran, and how it went."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.models import Project
from training.models.snapshots import Snapshot
from training.models.transitions import move_to

if TYPE_CHECKING:
    from annotate.models import User


class RoundQuerySet(models.QuerySet["Round"]):
    def for_user(self, user: User) -> RoundQuerySet:
        """Rounds of the projects that `user` administers."""
        return self.filter(project__in=Project.objects.administered_by(user))

    def active(self) -> RoundQuerySet:
        """Those that are not over: a project has one at most."""
        return self.filter(status__in=Round.ACTIVE)


class Round(models.Model):
    """A plan of stages, run on a frozen snapshot of labels."""

    class Status(models.TextChoices):
        PLANNED = "planned", _("planned")
        RUNNING = "running", _("running")
        SUCCEEDED = "succeeded", _("succeeded")
        FAILED = "failed", _("failed")
        CANCELLED = "cancelled", _("cancelled")

    ACTIVE = (Status.PLANNED, Status.RUNNING)
    MOVES: ClassVar[dict[str, set[str]]] = {
        Status.PLANNED: {Status.RUNNING, Status.FAILED, Status.CANCELLED},
        Status.RUNNING: {Status.SUCCEEDED, Status.FAILED, Status.CANCELLED},
        Status.SUCCEEDED: set(),
        Status.FAILED: {Status.RUNNING},  # a retry of the run that failed
        Status.CANCELLED: set(),
    }

    project = models.ForeignKey(Project, models.PROTECT, related_name="rounds")
    number = models.PositiveIntegerField()
    status = models.CharField(max_length=9, choices=Status, default=Status.PLANNED)
    plan = models.JSONField()  # training.services.planning.plans.Plan as JSON
    snapshot = models.ForeignKey(Snapshot, models.PROTECT, null=True, blank=True, related_name="rounds")
    opened_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    error = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = RoundQuerySet.as_manager()
    move_to = move_to

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["project", "number"], name="round_number_once_per_project"),
            models.UniqueConstraint(
                fields=["project"], condition=Q(status__in=["planned", "running"]), name="round_one_active_per_project"
            ),
            models.CheckConstraint(
                condition=Q(status__in=["planned", "running", "succeeded", "failed", "cancelled"]),
                name="round_status_known",
            ),
        ]

    def __str__(self) -> str:
        return f"round {self.number} of {self.project}"

    @property
    def audit_name(self) -> str:
        """What the audit table calls it."""
        return f"round {self.number}"

    @property
    def is_active(self) -> bool:
        return self.status in self.ACTIVE
