"""What training answers when annotate asks (see annotate/hooks.py)."""

from __future__ import annotations

from annotate import hooks


def register() -> None:
    """Called once, when the app is ready."""
    from training.forms.settings import TrainingSettingsForm
    from training.services import model_versions, supply, template_remarks

    hooks.register_readiness(supply.readiness_of)
    hooks.register_labels_withdrawn(model_versions.mark_withdrawn)
    hooks.register_prompts_remarks(template_remarks.remarks)
    hooks.project_forms.append(TrainingSettingsForm)
