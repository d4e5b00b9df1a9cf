"""What training answers when annotate asks (see annotate/hooks.py)."""

from __future__ import annotations

from annotate import hooks


def register() -> None:
    """Called once, when the app is ready."""
    from training.forms.settings import TrainingSettingsForm
    from training.services import model_versions, supply, template_remarks

    hooks.register(
        hooks.Trainer(
            readiness=supply.readiness_of,
            labels_withdrawn=model_versions.mark_withdrawn,
            prompts_remarks=template_remarks.remarks,
            project_form=TrainingSettingsForm,
        )
    )
