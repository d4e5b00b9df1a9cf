"""Questions that admins put to models, to see how they answer.

Nothing here is a prompt or a completion, and none of it is shown to annotators, ranked or trained on, until an admin
lets people rank the answers: then a slate is made of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models
from django.utils import timezone

from annotate.models import Project, Slate
from training.models.model_versions import ModelVersion
from training.models.runs import Run

if TYPE_CHECKING:
    from annotate.models import User


class QuestionQuerySet(models.QuerySet["Question"]):
    def for_user(self, user: User) -> QuestionQuerySet:
        """Questions in the projects that `user` administers."""
        return self.filter(project__in=Project.objects.administered_by(user))


class Question(models.Model):
    """One question, put to several models at once."""

    project = models.ForeignKey(Project, models.PROTECT, related_name="questions")
    asked_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    context = models.JSONField(default=list, blank=True)  # the turns before it, as chat messages [{"role", "content"}]
    text = models.TextField()
    slate = models.OneToOneField(Slate, models.PROTECT, null=True, blank=True, related_name="question")
    sent_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    objects = QuestionQuerySet.as_manager()

    def __str__(self) -> str:
        return f"question {self.pk}"

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What the models are given: the turns before it, and the question as the turn of a person."""
        return [*self.context, {"role": "user", "content": self.text}]


class Answer(models.Model):
    """What one model says to a question: the work of a sampling run that belongs to no round."""

    question = models.ForeignKey(Question, models.PROTECT, related_name="answers")
    model_version = models.ForeignKey(ModelVersion, models.PROTECT, related_name="answers")
    run = models.OneToOneField(Run, models.PROTECT, related_name="answer")
    texts = models.JSONField(default=list, blank=True)  # [{"text", "finish_reason"}], one for each draw

    def __str__(self) -> str:
        return f"answer of {self.model_version} to {self.question}"
