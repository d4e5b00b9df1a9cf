"""Demonstrations: answers that people wrote."""

from __future__ import annotations

from django.db import models

from annotate.models.labels import Label, LabelQuerySet
from annotate.models.prompts import Prompt


class Demonstration(Label):
    """An answer that a person wrote to a prompt."""

    prompt = models.ForeignKey(Prompt, models.PROTECT, related_name="demonstrations")
    text = models.TextField()

    objects = LabelQuerySet["Demonstration"].as_manager()

    class Meta(Label.Meta):
        abstract = False

    def __str__(self) -> str:
        return f"demonstration {self.pk}"
