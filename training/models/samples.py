"""Samples: which model wrote which completion. Annotators see none of these tables."""

from __future__ import annotations

import hashlib
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone

from annotate.models import Completion, Project, Slate
from training.models.model_versions import ModelVersion
from training.models.runs import Run


class Sample(models.Model):
    """Where a completion came from, and what the sampler knew when it wrote it."""

    completion = models.OneToOneField(Completion, models.PROTECT, related_name="sample")
    model_version = models.ForeignKey(ModelVersion, models.PROTECT, related_name="samples")
    run = models.ForeignKey(Run, models.PROTECT, related_name="samples")
    parameters = models.JSONField(default=dict)  # temperature, index of the draw
    n_tokens = models.PositiveIntegerField()
    logprob = models.FloatField()  # nats, sum over the answer's tokens, under the sampling weights
    reward = models.FloatField(null=True, blank=True)  # r', in standard deviations; None without a reward model
    is_repaired = models.BooleanField(default=False)  # the text had characters that clean_text() took out

    def __str__(self) -> str:
        return f"sample of {self.model_version}"


class SentSample(models.Model):
    """Two samples of a run, a policy's answer and that of the model before it, that an admin sent to be ranked.

    The same two are sent once.
    """

    project = models.ForeignKey(Project, models.PROTECT, related_name="sent_samples")
    run = models.ForeignKey(Run, models.PROTECT, related_name="sent_samples")
    digest = models.CharField(max_length=64)  # of the prompt's id and the two answers
    slate = models.OneToOneField(Slate, models.PROTECT, related_name="sent_sample")
    sent_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["project", "digest"], name="sent_sample_once")]

    def __str__(self) -> str:
        return f"sample of {self.run}"

    @staticmethod
    def digest_of(prompt_id: str, text: str, reference_text: str) -> str:
        """The same for the same two answers to the same prompt, in whichever run."""
        return hashlib.sha256("\0".join([prompt_id, text, reference_text]).encode()).hexdigest()
