"""Examinations: what a worker found in the records that a round would use, before the round."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone

from annotate.models import Project


class ExaminationQuerySet(models.QuerySet["Examination"]):
    def pending(self) -> ExaminationQuerySet:
        """Those that wait for a worker, or that one does."""
        return self.filter(status=Examination.Status.PENDING)


class Examination(models.Model):
    """One examination of the models, settings and labels that `key` stands for."""

    class Status(models.TextChoices):
        PENDING = "pending"
        DONE = "done"
        FAILED = "failed"

    project = models.ForeignKey(Project, models.PROTECT, related_name="examinations")
    key = models.CharField(max_length=64)  # hashes of models and settings, and of the labels
    status = models.CharField(max_length=7, choices=Status, default=Status.PENDING)
    findings = models.JSONField(default=list, blank=True)  # [{"level", "kind", "numbers"}]
    examples = models.JSONField(default=dict, blank=True)  # {stage: [example]}
    error = models.TextField(blank=True)
    ending = models.JSONField(default=dict, blank=True)  # why it failed, as data: rlhf/endings.py
    rung_at = models.DateTimeField(null=True, blank=True)  # when a worker was last asked
    started_at = models.DateTimeField(null=True, blank=True)
    alive_at = models.DateTimeField(null=True, blank=True)  # the last heartbeat of the worker that does it
    created_at = models.DateTimeField(default=timezone.now)

    objects = ExaminationQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["project", "key"], name="examination_once_per_state"),
            models.CheckConstraint(
                condition=Q(status__in=["pending", "done", "failed"]), name="examination_status_known"
            ),
        ]

    def __str__(self) -> str:
        return f"examination {self.pk}"
