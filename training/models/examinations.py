"""Examinations: what a worker found out for the plan of a round, before the round."""

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

    class Kind(models.TextChoices):
        RECORDS = "records"  # what the round would train on
        MEMORY = "memory"  # the memory count: what each stage needs at its peak

    class Status(models.TextChoices):
        PENDING = "pending"
        DONE = "done"
        FAILED = "failed"

    project = models.ForeignKey(Project, models.PROTECT, related_name="examinations")
    kind = models.CharField(max_length=7, choices=Kind, default=Kind.RECORDS)
    key = models.CharField(max_length=64)  # hashes of models and settings, and of the labels
    status = models.CharField(max_length=7, choices=Status, default=Status.PENDING)
    findings = models.JSONField(default=list, blank=True)  # [{"level", "kind", "numbers"}]
    examples = models.JSONField(default=dict, blank=True)  # {stage: [example]}
    counts = models.JSONField(default=dict, blank=True)  # {kind of device: [what rlhf/memory_count/report.py writes]}
    error = models.TextField(blank=True)
    ending = models.JSONField(default=dict, blank=True)  # why it failed, as data: rlhf/endings.py
    rung_at = models.DateTimeField(null=True, blank=True)  # when a worker was last asked
    started_at = models.DateTimeField(null=True, blank=True)
    alive_at = models.DateTimeField(null=True, blank=True)  # the last heartbeat of the worker that does it
    created_at = models.DateTimeField(default=timezone.now)

    objects = ExaminationQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["project", "kind", "key"], name="examination_once_per_state"),
            models.CheckConstraint(condition=Q(kind__in=["records", "memory"]), name="examination_kind_known"),
            models.CheckConstraint(
                condition=Q(status__in=["pending", "done", "failed"]), name="examination_status_known"
            ),
        ]

    def __str__(self) -> str:
        return f"examination {self.pk}"

    def is_about(self, key: str) -> bool:
        """Whether `key` stands for the same models and settings, of whatever labels."""
        half = len(key) // 2
        return self.key[:half] == key[:half]
