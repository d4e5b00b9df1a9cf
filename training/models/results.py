"""Results: what a round amounts to, computed once from what its evaluation wrote."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils import timezone

from training.models.rounds import Round


class Result(models.Model):
    """The figures of a round with their intervals, and answers of the old and the new policy side by side."""

    round = models.OneToOneField(Round, models.PROTECT, related_name="result")
    # Each interval is [value, low, high].
    figures = models.JSONField()  # [{"name", "after": interval, and where it is known "before", "change": intervals}]
    gaps = models.JSONField()  # [{"gap", "pairs", "accuracy": interval}]
    # A pair is {"prompt": its id, "messages", "before", "after": pieces that joined are the whole text, "change", and
    # of both sides reward, judged and cut}. In older results no pair has an id.
    answers = models.JSONField()
    parting = models.JSONField(default=list)  # pairs on which reward model and independent judge disagree most
    # Pairs of the prompts that were watched then; one not answered is {"prompt", "messages", "name", "is_withdrawn"}.
    probes = models.JSONField(default=list)
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"result of {self.round}"

    def figure(self, name: str) -> dict[str, Any]:
        """The figure that is called `name`; empty where it was not measured."""
        return next((figure for figure in self.figures if figure["name"] == name), {})

    @property
    def win_rate(self) -> dict[str, Any]:
        """The figure that says how often the new answers win: by the independent judge if there was one, else proxy."""
        return self.figure("watcher_win_rate") or self.figure("win_rate")
