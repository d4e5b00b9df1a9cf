"""A form over a stored row that two people may have open at once."""

from __future__ import annotations

from copy import copy
from typing import Any

from django import forms
from django.utils.translation import gettext as _


class GuardedForm(forms.ModelForm):  # type: ignore[type-arg]  # no generic class at run time
    """Changes only what the person has changed, and never a value that they have not seen."""

    def carry_seen(self) -> None:
        """Send with each field the value that the page shows: `changed_data` then is what the person has changed."""
        for name, field in self.fields.items():
            is_sent = not self.is_bound or self.add_initial_prefix(name) in self.data
            field.show_hidden_initial = self.instance.pk is not None and is_sent

    def clean(self) -> dict[str, Any]:
        cleaned, changed = super().clean() or self.cleaned_data, self.changed_data
        data: Any = copy(self.data)  # a QueryDict: what was sent cannot be changed, its copy can
        for name, field in self.fields.items():
            stored, seen = self.initial.get(name), self.add_initial_prefix(name)
            if not (field.show_hidden_initial and field.has_changed(stored, data[seen])):
                continue
            data[seen] = stored  # the page shows it from now on: whoever saves again has seen it
            if name not in changed:
                data[self.add_prefix(name)] = cleaned[name] = stored
            elif field.has_changed(stored, data.get(self.add_prefix(name))):
                shown = dict(getattr(field, "choices", ())).get(stored, stored)
                said = _("Someone else has changed this to “%(value)s” in the meantime. Save again to replace it.")
                self.add_error(name, said % {"value": shown})
        self.data = data
        return cleaned
