"""Base models: where a project's line of models begins. Built in (pretrained here), or adopted from a folder."""

from __future__ import annotations

import json
import shutil

from django.db import transaction
from django.utils.translation import gettext as _

from annotate.models import Project, User
from annotate.services import audit
from training import doorbell
from training.models import ModelVersion, Run, TrainingSettings, note
from training.rlhf.run.manifest import MANIFEST
from training.services.registry import adoptions, configs
from training.services.registry.adoptions import NotAdopted, UnknownFolder
from training.stages import Stage
from training.tiny import recipe

__all__ = ["NotAdopted", "UnknownFolder", "is_settled", "register", "why_missing"]


def is_settled(project: Project) -> bool:
    """Whether the base model of `project` is made, or being made."""
    made = ModelVersion.objects.bases().filter(project=project)
    return made.exists() or Run.objects.filter(project=project, stage=Stage.PRETRAINING).exists()


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


def register(project: Project, *, asked_by: User | None = None) -> None:
    """Make sure that `project` has its base model, or a run on its way to one.

    Asking again after the run has failed tries again. Raises UnknownFolder or NotAdopted.
    """
    if ModelVersion.objects.bases().filter(project=project).exists():
        return
    training = TrainingSettings.objects.get(project=project)
    if training.base_model == TrainingSettings.TINY:
        _pretrain(project, training, asked_by)
    else:
        _adopt(project, training.base_model, asked_by)


def _pretrain(project: Project, training: TrainingSettings, asked_by: User | None) -> None:
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
        note(run, Run.Status.QUEUED, actor=asked_by)
        doorbell.ring(run)


@transaction.atomic
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
