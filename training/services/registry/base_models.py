"""Base models: where a project's line of models begins. The built-in tiny one, or one adopted from a folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from django.db import transaction
from django.utils.translation import gettext as _

from annotate.models import Project, User
from annotate.services import audit
from training.models import ModelVersion, Run, TrainingSettings
from training.rlhf.config import to_json
from training.rlhf.run.manifest import MANIFEST
from training.services.registry import adoptions, settings_changes
from training.services.registry.adoptions import NotAdopted, UnknownFolder
from training.stages import Stage
from training.tiny import recipe

__all__ = ["NotAdopted", "UnknownFolder", "is_settled", "register", "why_missing"]


def is_settled(project: Project) -> bool:
    """Whether `project` has its base model, or a pretraining of before version 0.2 is still making it."""
    return ModelVersion.objects.bases().filter(project=project).exists() or _is_pretraining(project)


def why_missing(training: TrainingSettings) -> str:
    """In words, what a project without a base model waits for."""
    name = training.base_model
    if name == TrainingSettings.TINY:
        return _("The base model is not ready yet.")
    try:
        adoptions.adopted(name)
    except (NotAdopted, UnknownFolder) as refusal:
        return _("The base model “%(name)s” is not ready yet: %(why)s") % {"name": name, "why": refusal}
    return _("The base model “%(name)s” will be available in a moment.") % {"name": name}


@transaction.atomic
def register(project: Project, *, asked_by: User | None = None) -> None:
    """Make sure that `project` has its base model, and the preset that suits it. Raises UnknownFolder or NotAdopted."""
    if is_settled(project):
        return
    training = TrainingSettings.objects.get(project=project)
    if training.base_model == TrainingSettings.TINY:
        _copy_tiny(project, asked_by)
    else:
        _adopt(project, training.base_model, asked_by)
    settings_changes.follow_base_model(project)


def copy_built_in(target: Path) -> None:
    """Put the built-in model into `target`, which is there with all of its files or not at all. Raises OSError."""
    draft = target.with_name(f".{target.name}.draft")
    draft.mkdir(parents=True)
    for path in recipe.BASE.iterdir():
        shutil.copyfile(path, draft / path.name)  # not its mode: what lies in DATA_DIR is for the service alone
    draft.replace(target)


def _is_pretraining(project: Project) -> bool:
    return Run.objects.unfinished().filter(project=project, stage=Stage.PRETRAINING).exists()


def _copy_tiny(project: Project, asked_by: User | None) -> None:
    """Give `project` a copy of the built-in model: two megabytes, and an upgrade of the code never changes it."""
    Project.objects.select_for_update(no_key=True).get(pk=project.pk)
    if is_settled(project):
        return  # somebody else was faster
    manifest = json.loads((recipe.BASE / MANIFEST).read_text("utf-8"))
    base = ModelVersion(
        project=project,
        kind=ModelVersion.Kind.BASE,
        number=1,
        manifest=manifest,
        manifest_sha256=manifest["sha256"],
        config=to_json(recipe.config()),
    )
    copy_built_in(base.directory)
    base.save()
    audit.record("model.copied", actor=asked_by, project=project, subject=base.name)


def _adopt(project: Project, folder: str, asked_by: User | None) -> None:
    """Make what was adopted from the folder the base model; its hash makes every later change of it visible."""
    adoption = adoptions.adopted(folder)
    manifest = json.loads((adoption.directory / MANIFEST).read_text("utf-8"))
    base = ModelVersion.objects.create(
        project=project,
        kind=ModelVersion.Kind.BASE,
        number=1,
        adoption=adoption,
        external_path=adoption.path,
        manifest={"files": manifest["files"]},
        manifest_sha256=manifest["sha256"],
    )
    audit.record("model.adopted", actor=asked_by, project=project, subject=base.name, folder=folder)
