"""Completions and the slates in which they are judged. Nothing here knows who or what wrote a completion."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.models.people import User
from annotate.models.projects import Project
from annotate.models.prompts import Prompt


class SlateQuerySet(models.QuerySet["Slate"]):
    def for_user(self, user: User) -> SlateQuerySet:
        """Slates of the projects in which `user` reviews; annotators meet slates through assignments only."""
        return self.filter(project__in=Project.objects.reviewed_by(user))


class Slate(models.Model):
    """The two to nine completions of one prompt that are judged together."""

    SMALLEST, LARGEST = 2, 9

    project = models.ForeignKey(Project, models.PROTECT, related_name="slates")
    prompt = models.ForeignKey(Prompt, models.PROTECT, related_name="slates")
    created_at = models.DateTimeField(default=timezone.now)

    objects = SlateQuerySet.as_manager()

    def __str__(self) -> str:
        return f"slate {self.pk}"


class FinishReason(models.TextChoices):
    STOP = "stop", _("complete")
    LENGTH = "length", _("cut off at the length limit")


class Completion(models.Model):
    """An answer to be judged. Rows of a slate are inserted in shuffled order, so that ids do not order by author."""

    slate = models.ForeignKey(Slate, models.PROTECT, related_name="completions")
    text = models.TextField()
    finish_reason = models.CharField(max_length=6, choices=FinishReason, default=FinishReason.STOP)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(finish_reason__in=FinishReason.values), name="completion_finish_reason_known"
            )
        ]

    def __str__(self) -> str:
        return self.text[:80]
