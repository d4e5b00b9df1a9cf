"""The form of a question: its text, and which models answer it."""

from __future__ import annotations

import re
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from annotate.models import Project
from annotate.services.text import MESSAGE_LIMIT, BadText, clean_filled_text
from training.models import Answer, ModelVersion
from training.services.running import questions

FOLLOWS = re.compile(r"([0-9]{1,18})-([0-9]{1,3})", re.ASCII)


def conversation_of(project: Project, follows: str) -> list[dict[str, str]] | None:
    """The conversation up to the answer that `follows` names; None where `project` has no such answer."""
    if not (match := FOLLOWS.fullmatch(follows)):
        return None
    answer_pk, draw = map(int, match.groups())
    answer = Answer.objects.filter(question__project=project, pk=answer_pk).select_related("question").first()
    return questions.conversation_after(answer, draw) if answer and draw < len(answer.texts) else None


class QuestionForm(forms.Form):
    text = forms.CharField(
        label=_("Your question"),
        strip=False,
        widget=forms.Textarea(attrs={"rows": 4, "dir": "auto"}),
        help_text=_(
            "Only admins can see it. It is not shown to annotators or used for training unless you ask people to "
            "rank the answers."
        ),
    )
    follows = forms.CharField(
        required=False, widget=forms.HiddenInput
    )  # "answer id-draw" that the question goes on from
    models = forms.ModelMultipleChoiceField(
        label=_("Models"), queryset=ModelVersion.objects.none(), widget=forms.CheckboxSelectMultiple
    )

    def __init__(self, *args: Any, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.project = project
        self.fields["models"].queryset = questions.models_to_ask(project).order_by("-pk")  # type: ignore[attr-defined]

    def clean_text(self) -> str:
        try:
            return clean_filled_text(self.cleaned_data["text"], limit=MESSAGE_LIMIT)
        except BadText as error:
            raise forms.ValidationError(str(error)) from None

    def clean_follows(self) -> list[dict[str, str]]:
        """The conversation that the question goes on with."""
        given = self.cleaned_data["follows"]
        if not given:
            return []
        found = conversation_of(self.project, given)
        if found is None:
            raise forms.ValidationError(_("The answer to continue from no longer exists. Ask the question again."))
        return found

    def clean_models(self) -> list[ModelVersion]:
        chosen = list(self.cleaned_data["models"])
        if len(chosen) > questions.MOST_MODELS:
            raise forms.ValidationError(_("Choose at most %(most)d models.") % {"most": questions.MOST_MODELS})
        return chosen
