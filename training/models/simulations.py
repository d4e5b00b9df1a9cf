"""Simulations: simulated people at work in a demo project, as a job of a worker."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.models import Kind, Project
from training.models.transitions import move_to


class SimulationQuerySet(models.QuerySet["Simulation"]):
    def live(self) -> SimulationQuerySet:
        """Those that are not over: a project has one at most."""
        return self.filter(status__in=Simulation.LIVE)


class Simulation(models.Model):
    """So many labels of one kind, wanted from simulated people."""

    class Status(models.TextChoices):
        WAITING = "waiting", _("waiting for a worker")
        RUNNING = "running", _("running")
        DONE = "done", _("done")
        STOPPED = "stopped", _("stopped")
        FAILED = "failed", _("failed")

    LIVE = (Status.WAITING, Status.RUNNING)
    MOVES: ClassVar[dict[str, set[str]]] = {
        Status.WAITING: {Status.RUNNING, Status.STOPPED},
        # Back to waiting where its worker went silent.
        Status.RUNNING: {Status.DONE, Status.STOPPED, Status.FAILED, Status.WAITING},
        Status.DONE: set(),
        Status.STOPPED: set(),
        Status.FAILED: set(),
    }

    project = models.ForeignKey(Project, models.PROTECT, related_name="simulations")
    kind = models.CharField(max_length=13, choices=Kind)
    wanted = models.PositiveIntegerField()  # labels
    done = models.PositiveIntegerField(default=0)  # labels
    status = models.CharField(max_length=7, choices=Status, default=Status.WAITING)
    started_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    error = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    touched_at = models.DateTimeField(default=timezone.now)  # the last progress, or when a worker was last asked

    objects = SimulationQuerySet.as_manager()
    move_to = move_to

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["project"], condition=Q(status__in=["waiting", "running"]), name="simulation_one_live"
            ),
            models.CheckConstraint(
                condition=Q(status__in=["waiting", "running", "done", "stopped", "failed"]),
                name="simulation_status_known",
            ),
            models.CheckConstraint(condition=Q(kind__in=["demonstration", "ranking"]), name="simulation_kind_known"),
        ]

    def __str__(self) -> str:
        return f"simulation {self.pk}"

    @property
    def audit_name(self) -> str:
        """What the audit table calls it."""
        return str(self)

    @property
    def is_live(self) -> bool:
        return self.status in self.LIVE
