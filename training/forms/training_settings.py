"""The training settings of a project as one form: a field for each setting, named stage-field as its row on the page.

Only what a person has changed is written. The form carries what it showed, so that two admins who have it open at once
do not undo each other's work.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.forms.boundfield import BoundField
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from training import presets
from training.forms.configs import form_field
from training.services.registry.settings_changes import Errors, Values
from training.services.registry.training_settings import Setting, StageSettings
from training.stages.number_format import typed


@dataclass(frozen=True)
class Row:
    """A setting and its field on the page."""

    setting: Setting
    field: BoundField


@dataclass(frozen=True)
class Group:
    """The rows of one stage: those that are seen at once, and the folded ones."""

    stage: StageSettings
    main: list[Row]
    more: list[Row]

    @property
    def is_open(self) -> bool:
        """Something among the folded rows is to be looked at."""
        return any(row.field.errors for row in self.more)

    @property
    def differing(self) -> int:
        """How many of the folded rows differ from the preset."""
        return sum(row.setting.differs for row in self.more)


class PresetForm(forms.Form):
    """Which preset a project takes, and the one that the page showed."""

    preset = forms.ChoiceField(choices=presets.choices)
    seen = forms.CharField(required=False)


class SettingsForm(forms.Form):
    """An empty field stands for the preset's value; once valid, it has `changes` and what was `seen` of them."""

    before = forms.CharField(widget=forms.HiddenInput)

    def __init__(self, data: Any = None, *, stages: list[StageSettings]) -> None:
        super().__init__(data)
        self.stages = stages
        self.settings = {setting.anchor: setting for stage in stages for setting in stage.settings}
        self.fields["before"].initial = json.dumps({name: one.value for name, one in self.settings.items()})
        for name, setting in self.settings.items():
            self.fields[name] = _field(setting)

    def clean_before(self) -> dict[str, Any]:
        try:
            before = json.loads(self.cleaned_data["before"])
        except (ValueError, RecursionError):
            before = None
        if not isinstance(before, dict):
            raise ValidationError(_("This page is out of date. Reload it."))
        return before

    @property
    def changes(self) -> Values:
        """What the person has changed, and what they have put back to the preset."""
        found: dict[str, dict[str, Any]] = {each.stage.name: dict.fromkeys(each.unknown) for each in self.stages}
        for name in self._changed():
            found[self.settings[name].stage][self.settings[name].name] = self._value(name)
        return {stage: values for stage, values in found.items() if values}

    @property
    def seen(self) -> Values:
        """The values that the page showed of what was changed."""
        found: dict[str, dict[str, Any]] = {}
        for name in self._changed():
            setting = self.settings[name]
            found.setdefault(setting.stage, {})[setting.name] = self.cleaned_data["before"][name]
        return found

    def groups(self) -> Iterator[Group]:
        for stage in self.stages:
            rows = [Row(setting, self[setting.anchor]) for setting in stage.settings]
            main, more = [row for row in rows if row.setting.is_main], [row for row in rows if not row.setting.is_main]
            yield Group(stage, main, more)

    def refused(self) -> list[Row]:
        """The rows with an error."""
        return [Row(setting, self[name]) for name, setting in self.settings.items() if self[name].errors]

    def add_refusals(self, errors: Errors) -> None:
        for stage, fields in errors.items():
            for name, sentences in fields.items():
                anchor = f"{stage}-{name}"
                self.add_error(anchor if anchor in self.fields else None, sentences)

    def over(self, stages: list[StageSettings]) -> SettingsForm:
        """What was typed, over what is stored by now: saved once more, it is saved in full knowledge."""
        now = SettingsForm(stages=stages)
        stored = {name: typed(setting.value) for name, setting in now.settings.items()}
        kept = {name: self.data[name] for name in self._changed() if name in stored}
        return SettingsForm(stored | kept | {"before": now.fields["before"].initial}, stages=stages)

    def _changed(self) -> list[str]:
        before = self.cleaned_data["before"]
        sent = [name for name in self.settings if name in self.data and name in before]
        return [name for name in sent if self._is_reset(name) or self._value(name) not in (None, before[name])]

    def _is_reset(self, name: str) -> bool:
        return self._value(name) is None and self.settings[name].differs

    def _value(self, name: str) -> Any:
        """What is in the field; None where it is empty, or its button was pressed."""
        if self.data.get("reset") == name:
            return None
        value = self.cleaned_data.get(name)
        return None if value in ("", None) else value


def _field(setting: Setting) -> forms.Field:
    field = form_field(
        setting.kind,
        setting.limits,
        label=capfirst(str(setting.label)),
        initial=typed(setting.value),
        required=False,
    )
    field.widget.attrs |= {
        "placeholder": typed(setting.preset_value),
        "data-preset": typed(setting.preset_value),
        "aria-describedby": f"{setting.anchor}-about",
        "autocomplete": "off",
    }
    return field
