"""What training registers with annotate (see annotate/hooks.py)."""

from __future__ import annotations

from annotate import hooks


def register() -> None:
    """Called once, when the app is ready."""
    from training.forms.settings import TrainingSettingsForm
    from training.services.labels import trainable_labels
    from training.services.registry import model_versions, template_remarks

    hooks.register_readiness(trainable_labels.readiness_of)
    hooks.register_labels_withdrawn(model_versions.mark_withdrawn)
    hooks.register_prompts_remarks(template_remarks.remarks)
    hooks.project_forms.append(TrainingSettingsForm)
