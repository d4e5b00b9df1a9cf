"""The form of a question: its text, and which models answer it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from annotate.models import Project
from annotate.services.text import MESSAGE_LIMIT, BadText, clean_filled_text
from training.models import ModelVersion
from training.services.running import questions


class QuestionForm(forms.Form):
    text = forms.CharField(
        label=_("Your question"),
        strip=False,
        widget=forms.Textarea(attrs={"rows": 4, "dir": "auto"}),
        help_text=_("It is kept here for admins. No annotator sees it, and no model learns from it."),
    )
    models = forms.ModelMultipleChoiceField(
        label=_("Who answers"), queryset=ModelVersion.objects.none(), widget=forms.CheckboxSelectMultiple
    )

    def __init__(self, *args: Any, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["models"].queryset = questions.models_to_ask(project).order_by("-pk")  # type: ignore[attr-defined]

    def clean_text(self) -> str:
        try:
            return clean_filled_text(self.cleaned_data["text"], limit=MESSAGE_LIMIT)
        except BadText as error:
            raise forms.ValidationError(str(error)) from None

    def clean_models(self) -> list[ModelVersion]:
        chosen = list(self.cleaned_data["models"])
        if len(chosen) > questions.MOST_MODELS:
            raise forms.ValidationError(
                _("Choose %(most)d at most: more cannot be read beside each other.") % {"most": questions.MOST_MODELS}
            )
        return chosen
