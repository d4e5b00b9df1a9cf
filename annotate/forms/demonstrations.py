"""Writing an answer."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from annotate.forms.labels import LabelForm


class DemonstrationForm(LabelForm):
    text = forms.CharField(
        label=_("Your answer"),
        strip=False,
        error_messages={"required": _("Write an answer, or skip this prompt.")},
        widget=forms.Textarea(attrs={"dir": "auto", "rows": 12, "spellcheck": "true", "class": "text"}),
    )

    def clean_text(self) -> str:
        text = str(self.cleaned_data["text"])
        if not text.strip():
            raise forms.ValidationError(self.fields["text"].error_messages["required"])
        return text

    def draft(self) -> dict[str, Any]:
        return {"text": self.data.get("text", "")}
