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
    """The field of a form for a value of that kind, within the limits that the engine's parser keeps.

    Numbers are typed as text: of what is no number, an input of the browser's for numbers sends nothing, which would
    look like an empty field, and it reads a comma in its own way.
    """
    if limits.one_of:
        return forms.ChoiceField(choices=[(choice, choice) for choice in limits.one_of], **options)
    if kind is int:
        return forms.IntegerField(widget=forms.TextInput(attrs={"inputmode": "numeric"}), **options)
    if kind is float:
        return forms.FloatField(widget=forms.TextInput(), **options)
    return forms.CharField(**options)
