"""The form under a label that is reviewed."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from annotate.models import Verdict
from annotate.services.text import NOTE_LIMIT


class ReviewForm(forms.Form):
    verdict = forms.ChoiceField(choices=Verdict.choices)
    comment = forms.CharField(
        label=_("Comment for the author"),
        required=False,
        max_length=NOTE_LIMIT,
        widget=forms.Textarea(attrs={"rows": 3, "dir": "auto"}),
        help_text=_("Required when you return it. Say what should change."),
    )
    seen = forms.IntegerField(required=False, widget=forms.HiddenInput)  # id of the newest review on the page

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("verdict") == Verdict.RETURN and not cleaned.get("comment"):
            self.add_error("comment", _("Say what should change. The author sees only this comment."))
        return cleaned
