"""A project's training settings, shown with the project's own (annotate.hooks.project_form)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from django import forms
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from annotate.models import Project
from training.forms.base_models import BaseModelField
from training.models import TrainingSettings
from training.services.registry import base_models, training_settings

if TYPE_CHECKING:
    ModelForm = forms.ModelForm[TrainingSettings]
else:
    ModelForm = forms.ModelForm  # has no type arguments at run time


class TrainingSettingsForm(ModelForm):
    """What a project admin decides about training; the base model only before the project has one."""

    title = _("Training")

    class Meta:
        model = TrainingSettings
        fields = (
            "base_model",
            "completions_per_slate",
            "slates_per_round",
            "demonstrations_minimum",
            "rankings_minimum",
            "ppo_start",
        )
        help_texts = {
            "completions_per_slate": _("2 to 9. Four answers in one ranking give six comparisons."),
            "slates_per_round": _("Number of sets the new model writes for people to rank."),
            "demonstrations_minimum": _("The model first learns to answer from what people write."),
            "rankings_minimum": _("With fewer, the reward model is confident but often wrong."),
            "ppo_start": _("The policy that PPO trains further."),
        }

    def __init__(self, data: Any = None, *, project: Project | None = None) -> None:
        stored = TrainingSettings.objects.filter(project=project).first() if project and project.pk else None
        super().__init__(data, instance=stored or TrainingSettings(project=project), prefix="training")
        self.fields["base_model"] = BaseModelField(
            label=_("Base model"),
            current=self.instance.base_model,
            disabled=stored is not None and base_models.is_settled(stored.project),
        )

    @cached_property
    def changed_data(self) -> list[str]:
        """With the preset, which follows the base model."""
        changed = super().changed_data
        return [*changed, "preset"] if "base_model" in changed else changed

    def save(self, commit: bool = True) -> TrainingSettings:
        """Store them; the project then has its base model at once, where it can be had."""
        if "preset" in self.changed_data:
            self.instance.preset = training_settings.suggest(self.instance).name
        training = super().save(commit)
        # The folder may have changed a moment ago, the disk may be full: pages say so, and the next sweep tries again.
        with suppress(base_models.NotAdopted, base_models.UnknownFolder, OSError):
            base_models.register(training.project)
        return training
