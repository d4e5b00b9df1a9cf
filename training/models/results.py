"""Results: what a round amounts to, computed once from what its evaluation wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models
from django.utils import timezone

from annotate.models import Project
from training.models.rounds import Round

if TYPE_CHECKING:
    from annotate.models import User


class ResultQuerySet(models.QuerySet["Result"]):
    def for_user(self, user: User) -> ResultQuerySet:
        """Results of the projects that `user` administers."""
        return self.filter(round__project__in=Project.objects.administered_by(user))


class Result(models.Model):
    """The figures of a round with their intervals, and answers of the old and the new policy side by side."""

    round = models.OneToOneField(Round, models.PROTECT, related_name="result")
    # Each interval is [value, low, high].
    figures = models.JSONField()  # [{"name", "after": interval, and where it is known "before", "change": intervals}]
    gaps = models.JSONField()  # [{"gap", "pairs", "accuracy": interval}]
    answers = models.JSONField()  # [{"messages", "before", "after", "change", and of both sides reward and cut}]
    created_at = models.DateTimeField(default=timezone.now)

    objects = ResultQuerySet.as_manager()

    def __str__(self) -> str:
        return f"result of {self.round}"

    def figure(self, name: str) -> dict[str, Any]:
        """The figure that is called `name`; empty where it was not measured."""
        return next((figure for figure in self.figures if figure["name"] == name), {})
