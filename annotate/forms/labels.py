"""What the pages of both kinds of label share: a submission id, a draft that may be incomplete, and skipping."""

from __future__ import annotations

import uuid
from abc import abstractmethod
from typing import Any

from django import forms
from django.db import models
from django.utils.translation import gettext_lazy as _


class LabelForm(forms.Form):
    """Filled from what was typed, else from `stored`: the draft, or the label that is being corrected."""

    # Stays the same however often the form comes back, so that a submission whose answer was lost is recognised.
    submission_id = forms.UUIDField(widget=forms.HiddenInput)

    def __init__(self, data: Any = None, *, stored: dict[str, Any] | None = None) -> None:
        super().__init__(data, initial={"submission_id": uuid.uuid4(), **self.typed(stored or {})}, label_suffix="")

    def typed(self, stored: dict[str, Any]) -> dict[str, Any]:
        """A stored draft as values of the form's fields."""
        return stored

    @abstractmethod
    def draft(self) -> dict[str, Any]:
        """What was typed so far, in the shape of a draft: it need not be valid."""


class Reason(models.TextChoices):
    KNOWLEDGE = "knowledge", _("I do not know enough about this")
    UNCLEAR = "unclear", _("The prompt does not make sense")
    HARMFUL = "harmful", _("It is harmful or contains private data")
    OTHER = "other", _("Something else")


class SkipForm(forms.Form):
    """`cleaned_data["reason"]` is a sentence: reviewers read it when the item escalates."""

    choice = forms.ChoiceField(
        label=_("Why?"), choices=Reason, initial=Reason.KNOWLEDGE, widget=forms.RadioSelect(attrs={"id": "skip"})
    )
    words = forms.CharField(label=_("In your words"), required=False, max_length=250)

    def clean(self) -> dict[str, Any]:
        choice, words = str(self.cleaned_data.get("choice", "")), str(self.cleaned_data.get("words", "")).strip()
        if choice == Reason.OTHER and not words:
            raise forms.ValidationError(_("Please give a short reason."))
        named = str(Reason(choice).label) if choice and choice != Reason.OTHER else ""
        return {"reason": ": ".join(filter(None, [named, words]))}
