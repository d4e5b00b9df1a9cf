"""Demonstrations: answers that people wrote."""

from __future__ import annotations

from django.db import models

from annotate.models.labels import AbstractLabel, LabelQuerySet
from annotate.models.prompts import Prompt


class Demonstration(AbstractLabel):
    """An answer that a person wrote to a prompt."""

    path_to_prompt = "prompt"

    prompt = models.ForeignKey(Prompt, models.PROTECT, related_name="demonstrations")
    text = models.TextField()

    objects = LabelQuerySet["Demonstration"].as_manager()

    class Meta(AbstractLabel.Meta):
        abstract = False

    def __str__(self) -> str:
        return f"demonstration {self.pk}"
