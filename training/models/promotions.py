"""Promotions: the history of what a project serves. The newest row names the champion."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone

from annotate.models import Project
from training.models.model_versions import ModelVersion


class Promotion(models.Model):
    """From `created_at` on, until the next row, `model_version` is the project's champion."""

    project = models.ForeignKey(Project, models.PROTECT, related_name="promotions")
    model_version = models.ForeignKey(ModelVersion, models.PROTECT, related_name="promotions")
    promoted_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    reason = models.TextField()
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering: ClassVar = ["-pk"]

    def __str__(self) -> str:
        return f"{self.model_version} since {self.created_at:%Y-%m-%d}"
