"""What is to be exported, as a page, the API or a command says it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.formats import date_format
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate import hooks
from annotate.hooks import FrozenLabels
from annotate.models import Project
from annotate.services.exporting.exports import Export
from annotate.services.exporting.formats import FORMATS
from annotate.services.exporting.selection import Labels, Selection


class ExportForm(forms.Form):
    """In which format, and which labels: as they are now, or those that a round froze."""

    format = forms.ChoiceField(choices=[(name, name) for name in FORMATS], required=False)
    labels = forms.ChoiceField(choices=Labels.choices, required=False)
    snapshot = forms.IntegerField(min_value=1, required=False)  # the number of the round

    def __init__(self, data: Any = None, *, project: Project) -> None:
        super().__init__(data)
        self.project = project
        self.frozen = {each.round: each for each in hooks.frozen_labels(project)}

    def clean_snapshot(self) -> FrozenLabels | None:
        number = self.cleaned_data["snapshot"]
        if number is None:
            return None
        if number not in self.frozen:
            rounds = ", ".join(map(str, self.frozen)) or _("none yet")
            said = _("Round %(number)d has no snapshot. Rounds with a snapshot: %(rounds)s.")
            raise forms.ValidationError(said % {"number": number, "rounds": rounds})
        return self.frozen[number]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = self.cleaned_data
        if cleaned.get("labels") and cleaned.get("snapshot"):
            self.add_error("labels", _("Choose either “labels” or “snapshot”, not both."))
        return cleaned

    def export(self, kind: str) -> Export:
        """The export of `kind`; the form is valid."""
        said = self.cleaned_data
        selection = Selection(self.project, said["labels"] or Labels.CURRENT.value, said["snapshot"])
        return Export(kind, said["format"] or "jsonl", selection)


class ScopeForm(forms.Form):
    """The same choice as one list, for people."""

    scope = forms.ChoiceField(label=gettext_lazy("Labels"), required=False)

    def __init__(self, data: Any, *, project: Project) -> None:
        super().__init__(data)
        self.project = project
        self.frozen = {f"round-{each.round}": each for each in hooks.frozen_labels(project)}
        rounds = [(value, _frozen_name(each)) for value, each in self.frozen.items()]
        self.fields["scope"].choices = [*Labels.choices, *rounds]  # type: ignore[attr-defined]  # a ChoiceField's

    @property
    def selection(self) -> Selection:
        """What was chosen; the current labels if the choice does not exist."""
        scope = self.cleaned_data.get("scope") or Labels.CURRENT.value
        if frozen := self.frozen.get(scope):
            return Selection(self.project, frozen=frozen)
        return Selection(self.project, scope)

    @property
    def query(self) -> dict[str, str]:
        """What an ExportForm calls the selection."""
        frozen = self.selection.frozen
        return {"snapshot": str(frozen.round)} if frozen else {"labels": self.selection.labels}


def _frozen_name(frozen: FrozenLabels) -> str:
    return _("Round %(number)d, snapshot of %(date)s") % {
        "number": frozen.round,
        "date": date_format(localtime(frozen.frozen_at), "DATE_FORMAT"),
    }
