"""Forms for a project. The training settings beside it come from another app, see annotate.hooks.project_form."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from annotate.models import Project
from annotate.services import text

LONGEST_GUIDELINES = 100_000  # characters


def _cleaned_guidelines(guidelines: str) -> str:
    """The text as it is stored. Raises ValidationError."""
    try:
        return text.clean_text(guidelines, limit=LONGEST_GUIDELINES)
    except text.BadText as error:
        raise forms.ValidationError(str(error)) from error


class ProjectSettingsForm(forms.ModelForm):  # type: ignore[type-arg]  # no generic class at run time
    """What project admins may change at any time."""

    class Meta:
        model = Project
        fields: tuple[str, ...] = ("name", "demonstration_seats", "ranking_seats", "trains_on_simulated")
        labels = {
            "name": _("Name"),
            "demonstration_seats": _("People who answer each prompt"),
            "ranking_seats": _("People who rank each set of answers"),
            "trains_on_simulated": _("Labels of simulated annotators train, too"),
        }
        help_texts = {
            "demonstration_seats": _("1 to 9. A change counts for prompts that are added from now on."),
            "ranking_seats": _("1 to 9. More people per set show how far they agree; fewer cover more prompts."),
            "trains_on_simulated": _("For trying things out. Leave it off where people's judgement is meant to count."),
        }


class NewProjectForm(ProjectSettingsForm):
    """The settings, and what is decided once: the guidelines' first text and how much is held out."""

    heldout_percent = forms.IntegerField(
        label=_("Prompts held out, in %"),
        min_value=0,
        max_value=50,
        initial=10,
        help_text=_(
            "They are never trained on, so that progress is measured on questions the model has not seen. "
            "Fixed from now on: moving it later would carry trained-on prompts into the measurement."
        ),
    )

    class Meta(ProjectSettingsForm.Meta):
        fields = ("name", "guidelines", *ProjectSettingsForm.Meta.fields[1:])
        labels = ProjectSettingsForm.Meta.labels | {"guidelines": _("Guidelines")}
        help_texts = ProjectSettingsForm.Meta.help_texts | {
            "guidelines": _(
                "Markdown. What a good answer is, for people who write and rank. You can change them later."
            )
        }
        widgets = {"guidelines": forms.Textarea(attrs={"rows": 8, "dir": "auto"})}

    def clean_guidelines(self) -> str:
        return _cleaned_guidelines(self.cleaned_data["guidelines"])

    def save(self, commit: bool = True) -> Any:
        self.instance.heldout_share = self.cleaned_data["heldout_percent"] / 100
        return super().save(commit)


class GuidelinesForm(forms.Form):
    """The text, and the one that the editor started from, so that nobody overwrites what they have not seen."""

    text = forms.CharField(
        label=_("Guidelines"),
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 24, "dir": "auto"}),
        help_text=_("Markdown. Everybody in the project reads them beside the work."),
    )
    before = forms.CharField(required=False, strip=False, widget=forms.HiddenInput)

    def clean_text(self) -> str:
        return _cleaned_guidelines(self.cleaned_data["text"])

    def clean_before(self) -> str:
        # A browser sends every line end as CRLF; what is stored has LF.
        return str(self.cleaned_data["before"]).replace("\r\n", "\n")
