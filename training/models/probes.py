"""Probes: held-out prompts whose answers looked like cheating; on pages “prompts to watch”."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone

from annotate.models import Project, Prompt
from training.models.rounds import Round


class Probe(models.Model):
    """A prompt whose old and new answer the result of every later round shows, whatever the scores say."""

    project = models.ForeignKey(Project, models.PROTECT, related_name="probes")
    prompt = models.ForeignKey(Prompt, models.PROTECT, related_name="probes")
    round = models.ForeignKey(Round, models.PROTECT, related_name="probes")  # in which it was seen
    marked_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["project", "prompt"], name="probe_once_per_prompt")]

    def __str__(self) -> str:
        return f"probe of {self.prompt}"
