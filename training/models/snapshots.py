"""Snapshots: the labels a round uses, frozen as files with hashes."""

from __future__ import annotations

import uuid
from pathlib import Path

from django.conf import settings
from django.db import models
from django.utils import timezone

from annotate.models import Demonstration, Project, Ranking


class Snapshot(models.Model):
    """Files under DATA_DIR/snapshots/<uuid>/, their hashes, and the ids of the labels in them."""

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)  # the folder's name
    project = models.ForeignKey(Project, models.PROTECT, related_name="snapshots")
    files = models.JSONField()  # {name: {"size": bytes, "sha256": hex, "records": n}}
    counts = models.JSONField()  # {"demonstrations", "rankings", "heldout_rankings", …, "left_out": {reason: n}}
    sha256 = models.CharField(max_length=64)  # over the canonical `files`
    demonstrations = models.ManyToManyField(Demonstration, related_name="snapshots")
    rankings = models.ManyToManyField(Ranking, related_name="snapshots")
    uses_withdrawn_labels = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"s-{self.pk}"

    @property
    def train_rankings(self) -> int:
        """The rankings that models learn from: the reward model's, and those that are kept for the watcher."""
        return sum(self.counts.get(name, 0) for name in ("rankings", "watcher_rankings"))

    @property
    def directory(self) -> Path:
        return Path(settings.DATA_DIR) / "snapshots" / str(self.uuid)
