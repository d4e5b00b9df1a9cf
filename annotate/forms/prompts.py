"""Adding prompts by hand: pasted, or as a JSONL file."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.files.uploadedfile import UploadedFile
from django.utils.translation import gettext_lazy as _

LARGEST_FILE_MB = 10


class PromptsForm(forms.Form):
    paste = forms.CharField(
        label=_("Paste"),
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 8, "dir": "auto", "spellcheck": "false"}),
        help_text=_("One question a line."),
    )
    file = forms.FileField(
        label=_("JSONL file"),
        required=False,
        widget=forms.ClearableFileInput(attrs={"accept": ".jsonl,.ndjson,.json,application/jsonl"}),
        help_text=_("For conversations, ids and groups: one JSON object a line, UTF-8."),
    )

    def clean_file(self) -> UploadedFile | None:
        file = self.cleaned_data["file"]
        if file and file.size > LARGEST_FILE_MB * 1024 * 1024:
            raise forms.ValidationError(
                _("The file is larger than %(limit)s MB. Split it: importing again adds nothing twice.")
                % {"limit": LARGEST_FILE_MB}
            )
        return file

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if not cleaned.get("paste", "").strip() and not cleaned.get("file") and not self.errors:
            raise forms.ValidationError(_("Paste prompts or choose a file."))
        return cleaned
