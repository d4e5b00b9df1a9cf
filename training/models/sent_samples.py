"""Samples of training steps that were sent to the people who rank. Annotators never see this table."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone

from annotate.models import Project, Slate
from training.models.runs import Run

if TYPE_CHECKING:
    from annotate.models import User


class SentSampleQuerySet(models.QuerySet["SentSample"]):
    def for_user(self, user: User) -> SentSampleQuerySet:
        """What was sent in the projects that `user` administers."""
        return self.filter(project__in=Project.objects.administered_by(user))


class SentSample(models.Model):
    """A policy's answer and its reference's, which people are asked to rank: once for the same two."""

    project = models.ForeignKey(Project, models.PROTECT, related_name="sent_samples")
    run = models.ForeignKey(Run, models.PROTECT, related_name="sent_samples")
    digest = models.CharField(max_length=64)  # of the prompt's id and the two answers
    slate = models.OneToOneField(Slate, models.PROTECT, related_name="sent_sample")
    sent_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    objects = SentSampleQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["project", "digest"], name="sent_sample_once")]

    def __str__(self) -> str:
        return f"sample of {self.run}"
