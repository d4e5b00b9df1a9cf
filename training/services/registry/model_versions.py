"""Model versions: what an attempt wrote becomes a model of the registry, in one step under the attempt's fence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from training import stages
from training.models import ModelVersion, Run, Snapshot
from training.rlhf.exits import InvalidInput
from training.rlhf.model_folder import adapter_files
from training.rlhf.run.manifest import MANIFEST
from training.services.run_files import directories, judges_decision
from training.services.run_files.reader import RunFiles
from training.stages import ParentRole


def publish(run: Run, output: Path, parents: Mapping[str, ModelVersion]) -> ModelVersion:
    """The model that `run` made from its `parents` (by role), as its attempt left it in `output`.

    Called inside the transaction that ends the run. Raises InvalidInput as base_of does.
    """
    manifest = json.loads((output / MANIFEST).read_text("utf-8"))
    stage, measured = stages.find(run.stage), judges_decision.measured_of_published(RunFiles(run))
    model = ModelVersion(
        project=run.project,
        kind=stage.kind,
        number=ModelVersion.objects.next_number(run.project, stage.kind),
        parent=parents.get(stage.starts_from),
        reward=parents.get(ParentRole.REWARD),
        reference=parents.get(ParentRole.REFERENCE),
        watcher=parents.get(ParentRole.WATCHER),
        stands_on=base_of(output, parents.values()),
        run=run,
        attempt=run.fence,
        snapshot=run.snapshot,
        manifest=manifest,
        manifest_sha256=manifest["sha256"],
        config=json.loads((run.directory / "config.json").read_text("utf-8")),
        metrics=run.metrics | (measured.figures if measured else {}),
        uses_withdrawn_labels=_uses_withdrawn_labels(run, parents.values()),
    )
    _link_files(output, model.directory)
    # A rollback must not leave weights that no row knows; a crash right here may, and costs only disk space.
    try:
        model.save()
    except BaseException:
        shutil.rmtree(model.directory, ignore_errors=True)
        raise
    return model


def base_of(output: Path, parents: Iterable[ModelVersion]) -> ModelVersion | None:
    """The whole model that the adapter in `output` stands on; None where a whole model lies there, or none at all.

    It is one of the parents, or what one of them stands on. Raises InvalidInput for an adapter of any other model.
    """
    if not adapter_files.is_adapter(output):
        return None
    sha256 = adapter_files.base_sha256(output)
    known = {base.manifest_sha256: base for base in (parent.stands_on or parent for parent in parents)}
    if sha256 not in known:
        raise InvalidInput(f"its base {sha256[:8]}… is none of the models it was trained from", kind="trunk_differs")
    return known[sha256]


def why_base_missing(model: ModelVersion) -> str:
    """Why the adapter `model` cannot be read; empty where its base is there, and for a whole model."""
    if model.stands_on is None or model.stands_on.has_weights:
        return ""
    names = {"model": model.name, "base": model.stands_on.name}
    return _("%(model)s is an adapter of %(base)s, whose weights no longer exist. Restore them from a backup.") % names


def mark_withdrawn(label: str, ids: Iterable[int]) -> None:
    """Mark the snapshots that hold these labels, and every model that descends from them.

    `label` is demonstration or ranking.
    """
    with transaction.atomic():
        snapshots = Snapshot.objects.filter(**{f"{label}s__in": list(ids)}).values_list("pk", flat=True)
        affected = list(snapshots)
        Snapshot.objects.filter(pk__in=affected).update(uses_withdrawn_labels=True)
        models = ModelVersion.objects.filter(snapshot__in=affected)
        while unmarked := list(models.filter(uses_withdrawn_labels=False).values_list("pk", flat=True)):
            ModelVersion.objects.filter(pk__in=unmarked).update(uses_withdrawn_labels=True)
            models = ModelVersion.objects.made_from(unmarked)


def _uses_withdrawn_labels(run: Run, parents: Iterable[ModelVersion]) -> bool:
    snapshot: Any = run.snapshot
    return any(parent.uses_withdrawn_labels for parent in parents) or bool(snapshot and snapshot.uses_withdrawn_labels)


def _link_files(output: Path, target: Path) -> None:
    """Give the files of `output` a second name in `target`, which is there with all of them or not at all."""
    draft = target.with_name(f".{target.name}.draft")
    draft.mkdir(parents=True)
    for path in output.iterdir():
        directories.link_or_copy(path, draft / path.name)
    draft.replace(target)
