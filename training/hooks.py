"""What training registers with annotate (see annotate/hooks.py)."""

from __future__ import annotations

from annotate import hooks
from training.forms.settings import TrainingSettingsForm
from training.services.demo import guide
from training.services.labels import provenance, trainable_labels
from training.services.pages import project_overview
from training.services.registry import model_versions, template_remarks


def register() -> None:
    """Called once, when the app is ready."""
    hooks.register(
        hooks.Trainer(
            readiness=trainable_labels.readiness_of,
            labels_withdrawn=model_versions.mark_withdrawn,
            prompts_remarks=template_remarks.remarks,
            overview=project_overview.build,
            project_form=TrainingSettingsForm,
            panels=guide.panels,
            writers=provenance.writers,
            frozen_labels=provenance.frozen_labels,
        )
    )
