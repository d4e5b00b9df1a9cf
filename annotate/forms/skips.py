"""Giving a piece of work back, and why."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db import models
from django.utils.translation import gettext_lazy as _


class Reason(models.TextChoices):
    KNOWLEDGE = "knowledge", _("I do not know enough about this")
    UNCLEAR = "unclear", _("The prompt makes no sense")
    HARMFUL = "harmful", _("It is harmful or private")
    OTHER = "other", _("Something else")


class SkipForm(forms.Form):
    """`cleaned_data["reason"]` is a sentence: reviewers read it when three people have skipped."""

    choice = forms.ChoiceField(
        label=_("Why?"), choices=Reason, initial=Reason.KNOWLEDGE, widget=forms.RadioSelect(attrs={"id": "skip"})
    )
    words = forms.CharField(label=_("In your words"), required=False, max_length=250)

    def clean(self) -> dict[str, Any]:
        choice, words = str(self.cleaned_data.get("choice", "")), str(self.cleaned_data.get("words", "")).strip()
        if choice == Reason.OTHER and not words:
            raise forms.ValidationError(_("Say in a few words why."))
        named = str(Reason(choice).label) if choice and choice != Reason.OTHER else ""
        return {"reason": ": ".join(filter(None, [named, words]))}
