"""Runs: one stage as a job. The row is the job; a message only says "look at run 7"."""

from __future__ import annotations

import uuid
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Case, Max, Q, Value, When
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.models import Project
from training.models.rounds import Round
from training.models.snapshots import Snapshot
from training.models.transitions import move_to
from training.stages import Stage, stage_choices

if TYPE_CHECKING:
    from annotate.models import User


# A worker: two of its heartbeats may be late before a page says that it is gone.
SILENT_AFTER = timedelta(seconds=max(25.0, 2.5 * settings.RUN_HEARTBEAT_S))


class RunQuerySet(models.QuerySet["Run"]):
    def for_user(self, user: User) -> RunQuerySet:
        """Runs of the projects that `user` administers."""
        return self.filter(project__in=Project.objects.administered_by(user))

    def in_order(self) -> RunQuerySet:
        """As workers take them: by their position, and a pretraining after everything that rounds and questions need.

        A new run stands last; admins move runs (services/running/steering.py).
        """
        yields = Case(When(stage=Stage.PRETRAINING, then=Value(1)), default=Value(0))
        return self.annotate(yields=yields).order_by("yields", "position", "pk")

    def up_to(self, run: Run) -> RunQuerySet:
        """Those that stand before `run` in this order, and `run` itself."""
        same_place = Q(position=run.position, pk__lte=run.pk)
        is_not_after = Q(yields=run.yields_to_others) & (Q(position__lt=run.position) | same_place)
        return self.in_order().filter(Q(yields__lt=run.yields_to_others) | is_not_after)

    def queued(self) -> RunQuerySet:
        """Those that wait for a worker, in the order in which workers take them."""
        return self.in_order().filter(status=Run.Status.QUEUED)

    def running(self) -> RunQuerySet:
        """Those that a worker holds, as far as their rows say."""
        return self.filter(status=Run.Status.RUNNING)

    def lost(self) -> RunQuerySet:
        """Those that are running, say their rows, but whose worker is silent: the reconciler will queue them again."""
        return self.running().filter(Q(heartbeat_at=None) | Q(heartbeat_at__lt=Now() - SILENT_AFTER))

    def held(self) -> RunQuerySet:
        """Those that wait for a person, or for room on the disk."""
        return self.filter(status=Run.Status.HELD)

    def succeeded(self) -> RunQuerySet:
        return self.filter(status=Run.Status.SUCCEEDED)

    def finished(self) -> RunQuerySet:
        """Those that are over, well or not."""
        return self.filter(status__in=Run.FINISHED)

    def unfinished(self) -> RunQuerySet:
        """Those that are not over: waiting, running, interrupted or held."""
        return self.exclude(status__in=Run.FINISHED)


class Run(models.Model):
    """One stage, done by one engine process at a time under a rising fence."""

    class Status(models.TextChoices):
        QUEUED = "queued", _("waiting for a worker")
        RUNNING = "running", _("running")
        INTERRUPTED = "interrupted", _("interrupted")
        HELD = "held", _("on hold: needs attention")
        SUCCEEDED = "succeeded", _("succeeded")
        FAILED = "failed", _("failed")
        CANCELLED = "cancelled", _("cancelled")

    MOVES: ClassVar[dict[str, set[str]]] = {
        Status.QUEUED: {Status.RUNNING, Status.FAILED, Status.CANCELLED},
        Status.RUNNING: {Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.INTERRUPTED, Status.HELD},
        Status.INTERRUPTED: {Status.QUEUED, Status.FAILED, Status.CANCELLED},
        Status.HELD: {Status.QUEUED, Status.CANCELLED},
        Status.SUCCEEDED: set(),
        Status.FAILED: set(),
        Status.CANCELLED: set(),
    }
    FINISHED = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)  # the run directory's name
    project = models.ForeignKey(Project, models.PROTECT, related_name="runs")
    round = models.ForeignKey(Round, models.PROTECT, null=True, blank=True, related_name="runs")
    stage = models.CharField(max_length=32, choices=stage_choices)
    snapshot = models.ForeignKey(Snapshot, models.PROTECT, null=True, blank=True, related_name="runs")
    retry_of = models.OneToOneField("self", models.PROTECT, null=True, blank=True, related_name="retried_by")
    status = models.CharField(max_length=11, choices=Status, default=Status.QUEUED)
    position = models.BigIntegerField(editable=False)  # in the queue: the lowest is taken first
    fence = models.PositiveIntegerField(default=0)  # raised by every claim; a stale worker's writes change no row
    attempt = models.PositiveIntegerField(default=0)
    fruitless_attempts = models.PositiveSmallIntegerField(default=0)  # in a row, without a new checkpoint
    owner = models.CharField(max_length=200, blank=True)  # the worker's name
    lease_until = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    doubted_at = models.DateTimeField(null=True, blank=True)  # when its lease was first found to be over
    rung_at = models.DateTimeField(null=True, blank=True)  # when the doorbell last rang for it
    step = models.PositiveIntegerField(default=0)
    total = models.PositiveIntegerField(default=0)
    cancel_requested = models.BooleanField(default=False)
    exit_code = models.IntegerField(null=True, blank=True)
    error = models.TextField(blank=True)
    ending = models.JSONField(default=dict, blank=True)  # why the last attempt ended early, as data: rlhf/endings.py
    metrics = models.JSONField(default=dict, blank=True)  # the final summary; live curves are read from the file
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = RunQuerySet.as_manager()
    move_to = move_to

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["round", "stage"],
                condition=Q(status__in=["queued", "running", "interrupted", "held", "succeeded"]),
                name="run_one_live_per_stage_of_a_round",
            ),
            models.CheckConstraint(condition=~Q(stage=""), name="run_stage_named"),
            models.CheckConstraint(
                condition=Q(
                    status__in=["queued", "running", "interrupted", "held", "succeeded", "failed", "cancelled"]
                ),
                name="run_status_known",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["status", "lease_until"], name="run_by_lease"),
            models.Index(fields=["position"], name="run_by_position"),
        ]

    def __str__(self) -> str:
        return f"{self.stage} run {self.pk}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """A new run stands last. Two that come at once may get one position; the older one is first then."""
        if self.position is None:
            self.position = Run.last_position() + 1
        super().save(*args, **kwargs)

    @staticmethod
    def last_position() -> int:
        """The position behind which nothing stands, of all runs that there ever were."""
        return Run.objects.aggregate(last=Max("position"))["last"] or 0

    @property
    def yields_to_others(self) -> bool:
        """Whether it is taken only when nothing else waits: a base model is needed later than a round's next stage."""
        return self.stage == Stage.PRETRAINING

    @property
    def audit_name(self) -> str:
        """What the audit table calls it."""
        return f"{self} of {self.round.audit_name}" if self.round else str(self)

    @property
    def directory(self) -> Path:
        """RUN_DIR of the engine's contract."""
        return Path(settings.DATA_DIR) / "runs" / str(self.uuid)

    @property
    def answers_question(self) -> bool:
        """Whether it answers a question of an admin instead of working for a round."""
        return hasattr(self, "answer")
