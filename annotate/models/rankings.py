"""Rankings: one person's order of the completions of a slate, ties and "cannot judge" kept as they were given."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from annotate.models.completions import Completion, Slate
from annotate.models.labels import AbstractLabel, LabelQuerySet

LARGEST_RATING = 7  # 1 is bad, 7 is excellent


class Ranking(AbstractLabel):
    """One person's judgement of a slate."""

    path_to_prompt = "slate__prompt"

    slate = models.ForeignKey(Slate, models.PROTECT, related_name="rankings")

    objects = LabelQuerySet["Ranking"].as_manager()

    class Meta(AbstractLabel.Meta):
        abstract = False

    def __str__(self) -> str:
        return f"ranking {self.pk}"


class Placement(models.Model):
    """The place of one completion in a ranking. 1 is best, an equal place is a tie, None is "cannot judge"."""

    ranking = models.ForeignKey(Ranking, models.PROTECT, related_name="placements")
    completion = models.ForeignKey(Completion, models.PROTECT, related_name="placements")
    place = models.PositiveSmallIntegerField(null=True, blank=True)
    rating = models.PositiveSmallIntegerField(null=True, blank=True)  # 1 to LARGEST_RATING
    flags = models.JSONField(default=list, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["ranking", "completion"], name="placement_once_per_completion"),
            models.CheckConstraint(condition=Q(place__isnull=True) | Q(place__gte=1), name="placement_from_1"),
            models.CheckConstraint(
                condition=Q(rating__isnull=True) | Q(rating__range=(1, LARGEST_RATING)),
                name="placement_rating_from_1_to_7",
            ),
        ]

    def __str__(self) -> str:
        return f"place {self.place}"
