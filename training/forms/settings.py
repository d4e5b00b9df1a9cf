"""A project's training settings, shown with the project's own (annotate.hooks.project_form)."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from annotate.forms.guarded import GuardedForm
from annotate.models import Project
from training.forms.base_models import BaseModelField
from training.models import TrainingSettings
from training.presets import PRESETS
from training.services.registry import base_models, training_settings


class TrainingSettingsForm(GuardedForm):
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
            "slates_per_round": _("1 to 100,000. Number of sets the new model writes for people to rank."),
            "demonstrations_minimum": _(
                "1 to 100,000. The model first learns to answer from what people write. Later, as many new answers are "
                "enough for a round, even with fewer rankings."
            ),
            "rankings_minimum": _("1 to 100,000. With fewer, the reward model is confident but often wrong."),
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
        if stored:
            help_text = self.fields["base_model"].help_text
            self.fields["base_model"].help_text = format_html("{}{}", help_text, _preset(stored))
        self.carry_seen()

    def save(self, commit: bool = True) -> TrainingSettings:
        """Store them; the project then has its base model and its preset at once, where they can be had."""
        training: TrainingSettings = self.instance
        if training.pk:
            training.save(update_fields=self.changed_data)  # someone else may have changed the preset in the meantime
        else:
            super().save(commit)
        # The folder may have changed a moment ago, the disk may be full: pages say so, and the next sweep tries again.
        with suppress(base_models.NotAdopted, base_models.UnknownFolder, OSError):
            base_models.register(training.project)
        return training


def _preset(training: TrainingSettings) -> SafeString:
    """Which preset the project has for its base model, why, and where to change it."""
    return format_html(
        '<p id="base-model-preset">{} {} <a href="{}">{}</a></p>',
        _("Preset: %(preset)s.") % {"preset": PRESETS[training.preset].label},
        training_settings.preset_reason(training),
        reverse("training:settings", args=[training.project.slug]),
        _("View training settings"),
    )
