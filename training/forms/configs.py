"""The config of a run as a form: a field for each of the stage's, checked by the engine's own parser."""

from __future__ import annotations

import dataclasses
from typing import Any, get_type_hints

from django import forms

from training.rlhf.config import DTYPES, STAGES, RunConfig, parse
from training.rlhf.exits import InvalidInput
from training.services.run_files.config_fields import FIELDS, HIDDEN, Field


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
                value = saved.get(field.name, field.default)
                self.fields[field.name] = _form_field(field.name, types[field.name], value)

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if not self.errors:
            try:
                self.config = parse(self.saved | cleaned)
            except InvalidInput as error:
                self.add_error(error.field if error.field in self.fields else None, str(error))
        return cleaned


def _form_field(name: str, kind: Any, value: Any) -> forms.Field:
    words = FIELDS.get(name, Field(name.replace("_", " "), ""))
    label, help_text = str(words.label).capitalize(), str(words.meaning)
    if name == "dtype":
        return forms.ChoiceField(
            label=label, help_text=help_text, initial=value, choices=[(choice, choice) for choice in DTYPES]
        )
    if kind is int:
        return forms.IntegerField(label=label, help_text=help_text, initial=value)
    if kind is float:
        any_step = forms.NumberInput(attrs={"step": "any"})
        return forms.FloatField(label=label, help_text=help_text, initial=value, widget=any_step)
    return forms.CharField(label=label, help_text=help_text, initial=value)
