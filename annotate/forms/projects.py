"""Forms for a project. The training settings beside it come from another app, see annotate.hooks.project_form."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from annotate.forms.guarded import GuardedForm
from annotate.models import Project
from annotate.services import text

LONGEST_GUIDELINES = 100_000  # characters


def _cleaned_guidelines(guidelines: str) -> str:
    """The text as it is stored. Raises ValidationError."""
    try:
        return text.clean_text(guidelines, limit=LONGEST_GUIDELINES)
    except text.BadText as error:
        raise forms.ValidationError(str(error)) from error


class ProjectSettingsForm(GuardedForm):
    """What project admins may change at any time."""

    class Meta:
        model = Project
        fields: tuple[str, ...] = ("name", "demonstration_seats", "ranking_seats", "trains_on_simulated")
        labels = {
            "name": _("Name"),
            "demonstration_seats": _("People who answer each prompt"),
            "ranking_seats": _("People who rank each set of answers"),
            "trains_on_simulated": _("Train on labels from simulated annotators"),
        }
        help_texts = {
            "demonstration_seats": _("1 to 9. Applies to prompts added from now on."),
            "ranking_seats": _("1 to 9. More people per set lets you measure agreement; fewer cover more prompts."),
            "trains_on_simulated": _("For trying things out. Leave it off when training on real people's labels."),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.carry_seen()


class NewProjectForm(ProjectSettingsForm):
    """The settings, and what is decided once: the guidelines' first text and how much is held out."""

    heldout_percent = forms.IntegerField(
        label=_("Prompts held out, in %"),
        min_value=0,
        max_value=50,
        initial=10,
        help_text=_(
            "Held-out prompts are never used for training, so progress is measured on prompts the model "
            "has not seen. This cannot be changed later, because prompts already trained on would end up in the "
            "evaluation."
        ),
    )

    class Meta(ProjectSettingsForm.Meta):
        fields = ("name", "guidelines", *ProjectSettingsForm.Meta.fields[1:])
        labels = ProjectSettingsForm.Meta.labels | {"guidelines": _("Guidelines")}
        help_texts = ProjectSettingsForm.Meta.help_texts | {
            "guidelines": _(
                "Markdown. Tell people who write and rank what a good answer is. You can change this later."
            )
        }
        widgets = {"guidelines": forms.Textarea(attrs={"rows": 8, "dir": "auto"})}

    def clean_guidelines(self) -> str:
        return _cleaned_guidelines(self.cleaned_data["guidelines"])

    def save(self, commit: bool = True) -> Any:
        self.instance.heldout_share = self.cleaned_data["heldout_percent"] / 100
        return super().save(commit)


class GuidelinesForm(forms.Form):
    """The text, and the one that the editor started from, so that no one overwrites what they have not seen."""

    text = forms.CharField(
        label=_("Guidelines"),
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 24, "dir": "auto"}),
        help_text=_("Markdown. Everyone in the project can open them while labelling."),
    )
    before = forms.CharField(required=False, strip=False, widget=forms.HiddenInput)

    def clean_text(self) -> str:
        return _cleaned_guidelines(self.cleaned_data["text"])

    def clean_before(self) -> str:
        # A browser sends every line end as CRLF; what is stored has LF.
        return str(self.cleaned_data["before"]).replace("\r\n", "\n")
