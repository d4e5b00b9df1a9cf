"""Adding prompts by hand: pasted, or as a file."""

from __future__ import annotations

import io
import json
import re
from typing import Any

from django import forms
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.utils.translation import gettext_lazy as _

from annotate.services import prompts
from annotate.services.importing import sources
from annotate.services.importing.conversations import KEYS
from annotate.services.importing.encodings import NotUTF8

LARGEST_FILE_MB = settings.LARGEST_IMPORT_MB["annotate:add-prompts"]
# What begins like a record of a file is read as a file: no one would write it as a question. Nor a list without one.
RECORD = re.compile(r'\s*(\[\s*)?\{\s*"(' + "|".join(KEYS) + r')"\s*:|\s*\[\s*\]\s*$')


class PromptsForm(forms.Form):
    paste = forms.CharField(
        label=_("Paste"),
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 8, "dir": "auto", "spellcheck": "false"}),
        help_text=_("One prompt per line, or JSON as in a file."),
    )
    file = forms.FileField(
        label=_("JSON file"),
        required=False,
        widget=forms.ClearableFileInput(attrs={"accept": ".jsonl,.ndjson,.json,application/jsonl,application/json"}),
        help_text=_("For conversations, ids and groups: one JSON object per line, or a JSON list. UTF-8, up to %d MB.")
        % LARGEST_FILE_MB,
    )

    def clean_paste(self) -> sources.Source | None:
        paste: str = self.cleaned_data["paste"]
        if not paste.strip():
            return None
        if RECORD.match(paste) or _is_record(paste) or _is_record(paste.strip().splitlines()[0]):
            return _source(io.BytesIO(paste.encode()))
        return sources.Source(iter(prompts.records_from_paste(paste)))

    def clean_file(self) -> sources.Source | None:
        file: UploadedFile[bytes] | None = self.cleaned_data["file"]
        if not file:
            return None
        if (file.size or 0) > LARGEST_FILE_MB * 1024 * 1024:
            raise forms.ValidationError(
                _("The file is larger than %(limit)s MB. Split it and import the parts; nothing is added twice.")
                % {"limit": LARGEST_FILE_MB}
            )
        return _source(file.file)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        given = [cleaned[name] for name in ("paste", "file") if cleaned.get(name)]
        if not self.errors and not given:
            raise forms.ValidationError(_("Paste prompts or choose a file."))
        if len(given) > 1:
            raise forms.ValidationError(_("Either paste prompts or choose a file, not both. Nothing was added."))
        return cleaned | {"source": given[0] if given else None}


def _is_record(text: str) -> bool:
    """Whether `text` is JSON as a file has it, whatever its keys are called: the report names a wrong one."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value[0] if isinstance(value, list) and value else value, dict)


def _source(file: Any) -> sources.Source:
    try:
        return sources.read(file)
    except sources.NotJSON as error:
        # What is pasted comes here only where it begins like a record.
        instead = _("Plain text can be pasted above, one prompt per line.")
        raise forms.ValidationError(f"{error} {instead}") from None
    except (sources.Unreadable, NotUTF8) as error:
        raise forms.ValidationError(str(error)) from None
