"""What the forms of both kinds of label have in common: a submission id, and a draft that may be incomplete."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms


class LabelForm(forms.Form):
    """Filled from what was typed, else from `stored`: the draft, or the label that is being corrected."""

    # Stays the same however often the form comes back, so that a submission whose answer was lost is recognised.
    submission_id = forms.UUIDField(widget=forms.HiddenInput)

    def __init__(self, data: Any = None, *, stored: dict[str, Any] | None = None) -> None:
        super().__init__(data, initial={"submission_id": uuid.uuid4(), **self.typed(stored or {})}, label_suffix="")

    def typed(self, stored: dict[str, Any]) -> dict[str, Any]:
        """A stored draft as values of the form's fields."""
        return stored
