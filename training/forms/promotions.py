"""Why a model is promoted, or why it is taken back: a reason is always asked for."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _


class PromotionForm(forms.Form):
    reason = forms.CharField(
        label=_("Why?"),
        max_length=1000,
        widget=forms.Textarea(attrs={"rows": 3, "dir": "auto"}),
        help_text=_("One sentence for those who look at the history later."),
        error_messages={"required": _("Say why: the history keeps the reason beside your name.")},
    )


class RollBackForm(PromotionForm):
    seen = forms.IntegerField(widget=forms.HiddenInput)  # the champion that the page showed
