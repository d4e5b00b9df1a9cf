"""The config of a run as a form: a field for each of the stage's, checked by the engine's own parser."""

from __future__ import annotations

import dataclasses
from typing import Any, get_type_hints

from django import forms
from django.utils.text import capfirst

from training.rlhf.config import STAGES, Limits, RunConfig, parse
from training.rlhf.exits import InvalidInput
from training.services.run_files.config_fields import HIDDEN, words_of


class ConfigForm(forms.Form):
    """Starts from the config `saved` with a run; once valid, it has the changed one as `config`."""

    config: RunConfig

    def __init__(self, data: Any = None, *, saved: dict[str, Any]) -> None:
        super().__init__(data)
        self.saved = saved
        stage = STAGES[saved["stage"]]
        types = get_type_hints(stage)
        for field in dataclasses.fields(stage):
            if field.name not in HIDDEN:
                words = words_of(stage.stage, field.name)
                self.fields[field.name] = form_field(
                    types[field.name],
                    field.metadata.get("limits", Limits()),
                    label=capfirst(str(words.label)),
                    help_text=str(words.meaning),
                    initial=saved.get(field.name, field.default),
                )

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if not self.errors:
            try:
                self.config = parse(self.saved | cleaned)
            except InvalidInput as error:
                self.add_error(error.field if error.field in self.fields else None, str(error))
        return cleaned


def form_field(kind: Any, limits: Limits, **options: Any) -> forms.Field:
    """The field of a form for a value of that kind. The browser shows the limits, the engine's parser keeps them."""
    if limits.one_of:
        return forms.ChoiceField(choices=[(choice, choice) for choice in limits.one_of], **options)
    if kind is int:
        ends = {"min": limits.at_least, "max": limits.at_most}
        attributes = {name: end for name, end in ends.items() if end is not None}
        return forms.IntegerField(widget=forms.NumberInput(attrs=attributes), **options)
    if kind is float:
        return forms.FloatField(widget=forms.NumberInput(attrs={"step": "any"}), **options)
    return forms.CharField(**options)
