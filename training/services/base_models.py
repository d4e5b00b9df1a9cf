"""Base models: where a project's line of models begins. Built in (pretrained here), or a folder of the operator's."""

from __future__ import annotations

import shutil
from pathlib import Path

from django.conf import settings
from django.db import transaction

from annotate.models import Project
from training import doorbell
from training.models import ModelVersion, Run, Stage, TrainingSettings
from training.rlhf.manifest import LeadsOut, file_hashes, manifest_sha256
from training.services import configs
from training.tiny import recipe


class UnknownFolder(Exception):
    """BASE_MODELS_DIR has no such model."""


def available() -> list[str]:
    """The folders of BASE_MODELS_DIR that hold a model."""
    return sorted(path.parent.name for path in Path(settings.BASE_MODELS_DIR).glob("*/config.json"))


def is_settled(project: Project) -> bool:
    """Whether the base model of `project` is made, or being made."""
    made = ModelVersion.objects.filter(project=project, kind=ModelVersion.Kind.BASE)
    return made.exists() or Run.objects.filter(project=project, stage=Stage.PRETRAINING).exists()


def register(project: Project) -> None:
    """Make sure that `project` has its base model, or a run on its way to one.

    Asking again after the run has failed tries again. Raises UnknownFolder.
    """
    if ModelVersion.objects.filter(project=project, kind=ModelVersion.Kind.BASE).exists():
        return
    training = TrainingSettings.objects.get(project=project)
    if training.base_model == TrainingSettings.TINY:
        _pretrain(project, training)
    else:
        _adopt(project, training.base_model)


def _pretrain(project: Project, training: TrainingSettings) -> None:
    """Queue the run that makes the built-in base model, unless there is one."""
    run = Run(project=project, stage=Stage.PRETRAINING)
    recipe.prepare(run.directory, seed=training.seed, threads=configs.threads())
    with transaction.atomic():
        Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        last = Run.objects.filter(project=project, stage=Stage.PRETRAINING).order_by("pk").last()
        if last and last.status not in (Run.Status.FAILED, Run.Status.CANCELLED):
            shutil.rmtree(run.directory)
            return
        run.retry_of = last
        run.save()
        doorbell.ring(run)


def _adopt(project: Project, folder: str) -> None:
    """Take a folder of the operator's as it is; the hash makes every later change of it visible."""
    if folder not in available():
        raise UnknownFolder(folder)
    directory = (Path(settings.BASE_MODELS_DIR) / folder).resolve()
    model = ModelVersion(project=project, kind=ModelVersion.Kind.BASE, number=1, external_path=str(directory))
    try:
        model.manifest = {"files": file_hashes(directory)}
    except LeadsOut as error:
        raise UnknownFolder(f"{folder}: {error.strerror}.") from error
    model.manifest_sha256 = manifest_sha256(directory)
    model.save()
