"""Adoptions: a worker's examination of a folder of BASE_MODELS_DIR, and the copy that projects train from."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from training.models.transitions import move_to


class AdoptionQuerySet(models.QuerySet["Adoption"]):
    def live(self) -> AdoptionQuerySet:
        """Those that are not over: a folder has one at most."""
        return self.filter(status__in=Adoption.LIVE)

    def pending(self) -> AdoptionQuerySet:
        """Those that wait for a worker, the one that waits longest first."""
        return self.filter(status=Adoption.Status.PENDING).order_by("pk")

    def running(self) -> AdoptionQuerySet:
        """The one that a worker does: they are done one at a time."""
        return self.filter(status=Adoption.Status.RUNNING)

    def settled(self) -> AdoptionQuerySet:
        """Those that say whether the folder can be used."""
        return self.filter(status__in=Adoption.SETTLED)


class Adoption(models.Model):
    """One examination of a folder as it was when it had `fingerprint`.

    What was adopted lies in DATA_DIR/models/<uuid>/, sealed, and is shared by all projects that chose the folder.
    """

    class Status(models.TextChoices):
        PENDING = "pending", _("waiting for a worker")
        RUNNING = "running", _("being checked")
        ADOPTED = "adopted", _("can be used")
        REFUSED = "refused", _("cannot be used")
        FAILED = "failed", _("check failed")

    LIVE = (Status.PENDING, Status.RUNNING)
    SETTLED = (Status.ADOPTED, Status.REFUSED)
    MOVES: ClassVar[dict[str, set[str]]] = {
        Status.PENDING: {Status.RUNNING},
        # Back where its worker stopped, or went silent.
        Status.RUNNING: {Status.ADOPTED, Status.REFUSED, Status.FAILED, Status.PENDING},
        Status.ADOPTED: set(),
        Status.REFUSED: set(),
        Status.FAILED: set(),
    }
    project_id: ClassVar[None] = None  # it belongs to the installation: see transitions.note

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)  # the adopted directory's name
    folder = models.CharField(max_length=200)  # its name below BASE_MODELS_DIR
    fingerprint = models.CharField(max_length=64)  # of names, sizes and times, which a page can read
    sha256 = models.CharField(max_length=64, blank=True)  # of the contents, as the engine read them
    context = models.PositiveIntegerField(null=True, blank=True)  # tokens, stated where the config says none
    status = models.CharField(max_length=7, choices=Status, default=Status.PENDING)
    fence = models.PositiveIntegerField(default=0)  # raised by every attempt; a stale worker's writes change no row
    deaths = models.PositiveSmallIntegerField(default=0)  # of workers, while they examined it
    worker = models.CharField(max_length=200, blank=True)
    report = models.JSONField(default=dict, blank=True)  # what the engine wrote: see training/rlhf
    error = models.TextField(blank=True)
    asked_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    rung_at = models.DateTimeField(null=True, blank=True)  # when a worker was last asked
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = AdoptionQuerySet.as_manager()
    move_to = move_to

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["folder"],
                condition=Q(status__in=["pending", "running"]),
                name="adoption_one_live_per_folder",
            ),
            # Each holds a whole model in memory, and a worker has other things to do besides.
            models.UniqueConstraint(fields=["status"], condition=Q(status="running"), name="adoption_one_at_a_time"),
            models.CheckConstraint(
                condition=Q(status__in=["pending", "running", "adopted", "refused", "failed"]),
                name="adoption_status_known",
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["folder", "-id"], name="adoption_newest")]

    def __str__(self) -> str:
        return f"adoption of {self.folder}"

    @property
    def audit_name(self) -> str:
        """What the audit table calls it."""
        return self.folder

    @property
    def path(self) -> str:
        """Where the adopted model lies, below DATA_DIR, so that this can be moved."""
        return f"models/{self.uuid}"

    @property
    def directory(self) -> Path:
        """Where the adopted model lies."""
        return Path(settings.DATA_DIR) / self.path

    @property
    def is_live(self) -> bool:
        return self.status in self.LIVE
