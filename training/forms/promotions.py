"""Why a model is promoted, or why it is taken back: a reason is always asked for."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _


class PromotionForm(forms.Form):
    reason = forms.CharField(
        label=_("Reason"),
        max_length=1000,
        widget=forms.Textarea(attrs={"rows": 3, "dir": "auto"}),
        help_text=_("One sentence, shown in the history."),
        error_messages={"required": _("Enter a reason. The history shows it with your name.")},
    )


class RollBackForm(PromotionForm):
    seen = forms.IntegerField(widget=forms.HiddenInput)  # the champion that the page showed
