"""Samples: which model wrote which completion. Annotators never see this table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models

from annotate.models import Completion, Project
from training.models.model_versions import ModelVersion
from training.models.runs import Run

if TYPE_CHECKING:
    from annotate.models import User


class SampleQuerySet(models.QuerySet["Sample"]):
    def for_user(self, user: User) -> SampleQuerySet:
        """Samples of the projects that `user` administers."""
        return self.filter(model_version__project__in=Project.objects.administered_by(user))


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

    objects = SampleQuerySet.as_manager()

    def __str__(self) -> str:
        return f"sample of {self.model_version}"
