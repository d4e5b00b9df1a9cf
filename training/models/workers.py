"""Workers: who is alive, seen by the heartbeats in this table and not by asking the broker."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from training.models.runs import SILENT_AFTER, Run


class WorkerQuerySet(models.QuerySet["Worker"]):
    def alive(self, queue: str) -> WorkerQuerySet:
        """Those that serve `queue` now."""
        return self.filter(queue=queue, heartbeat_at__gt=Now() - SILENT_AFTER)

    def idle(self, queue: str) -> WorkerQuerySet:
        """Those that serve `queue` and have nothing to do."""
        return self.alive(queue).exclude(run__status=Run.Status.RUNNING)

    def silent(self) -> WorkerQuerySet:
        """Those of any queue that have stopped without saying so, or cannot reach the database."""
        return self.filter(heartbeat_at__lt=Now() - SILENT_AFTER)


class Worker(models.Model):
    """A worker process that wrote a heartbeat: its queue, its host, what it computes on."""

    name = models.CharField(max_length=200, unique=True)
    queue = models.CharField(max_length=7)
    host = models.CharField(max_length=120)
    device = models.CharField(max_length=200, blank=True)
    memory = models.PositiveBigIntegerField(null=True, blank=True)  # bytes that an engine finds there, as far as known
    # Of a run, that work there side by side; a run that wants more is left. None: a worker of an earlier version.
    processes = models.PositiveIntegerField(null=True, blank=True)
    pid = models.PositiveIntegerField()
    run = models.ForeignKey(Run, models.SET_NULL, null=True, blank=True, related_name="+")  # what it works on
    started_at = models.DateTimeField(default=timezone.now)
    heartbeat_at = models.DateTimeField(default=timezone.now)

    objects = WorkerQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(queue__in=["default", "gpu"]), name="worker_queue_known")
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def kind(self) -> str:
        """What it computes on, as the engine calls it: services/machines/resources.py counts cards with a ×."""
        return "cuda" if " × " in self.device else "cpu"
