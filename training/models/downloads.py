"""Downloads: a model packed into one file, for a day."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.models import Project
from training.models.model_versions import ModelVersion
from training.models.transitions import move_to

if TYPE_CHECKING:
    from annotate.models import User


class DownloadQuerySet(models.QuerySet["Download"]):
    def for_user(self, user: User) -> DownloadQuerySet:
        """Downloads of the projects that `user` administers."""
        return self.filter(project__in=Project.objects.administered_by(user))

    def live(self) -> DownloadQuerySet:
        """Those that are packed, being packed or waiting for it: a model has one at most of each form."""
        return self.filter(status__in=Download.LIVE)


class Download(models.Model):
    """The files of a model version as DATA_DIR/downloads/<uuid>.tar."""

    class Status(models.TextChoices):
        WAITING = "waiting", _("waiting for a worker")
        PACKING = "packing", _("being packed")
        READY = "ready", _("ready")
        FAILED = "failed", _("failed")
        DELETED = "deleted", _("deleted")

    LIVE = (Status.WAITING, Status.PACKING, Status.READY)
    MOVES: ClassVar[dict[str, set[str]]] = {
        Status.WAITING: {Status.PACKING},
        Status.PACKING: {Status.READY, Status.FAILED, Status.WAITING},  # back when its worker went silent
        Status.READY: {Status.DELETED},
        Status.FAILED: {Status.DELETED},
        Status.DELETED: set(),
    }

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)  # the file's name
    project = models.ForeignKey(Project, models.PROTECT, related_name="downloads")
    model_version = models.ForeignKey(ModelVersion, models.PROTECT, related_name="downloads")
    is_merged = models.BooleanField(
        default=False
    )  # an adapter in the weights of its base, and not the files as they lie
    asked_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    status = models.CharField(max_length=7, choices=Status, default=Status.WAITING)
    fence = models.PositiveIntegerField(default=0)  # the number of its packer: an earlier one may write nothing more
    done = models.PositiveBigIntegerField(default=0)  # bytes
    total = models.PositiveBigIntegerField()  # bytes; about, until an adapter has been merged
    error = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    touched_at = models.DateTimeField(default=timezone.now)  # the last sign of life of its packer

    objects = DownloadQuerySet.as_manager()
    move_to = move_to

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["model_version", "is_merged"],
                condition=Q(status__in=["waiting", "packing", "ready"]),
                name="download_one_live_per_model",
            ),
            models.CheckConstraint(
                condition=Q(status__in=["waiting", "packing", "ready", "failed", "deleted"]),
                name="download_status_known",
            ),
        ]

    def __str__(self) -> str:
        return f"download of {self.model_version}"

    @property
    def audit_name(self) -> str:
        """What the audit table calls it."""
        return str(self)

    @property
    def name(self) -> str:
        """What is packed, as its folder and its file are called."""
        is_adapter_alone = self.model_version.stands_on_id and not self.is_merged
        return f"{self.model_version.name}-adapter" if is_adapter_alone else self.model_version.name

    @property
    def path(self) -> Path:
        """Where the packed file lies once it is ready."""
        return Path(settings.DATA_DIR) / "downloads" / f"{self.uuid}.tar"

    @property
    def is_merging(self) -> bool:
        """Whether its packer has yet to merge the adapter, or is at it."""
        return self.status == self.Status.PACKING and self.is_merged and not self.done

    @property
    def is_under_way(self) -> bool:
        return self.status in (self.Status.WAITING, self.Status.PACKING)
