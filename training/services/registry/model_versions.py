"""Model versions: what an attempt wrote becomes a model of the registry, in one step under the attempt's fence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from django.db import transaction

from training import stages
from training.models import ModelVersion, Run, Snapshot
from training.rlhf.run.manifest import MANIFEST
from training.services.run_files import directories
from training.stages import ParentRole


def publish(run: Run, output: Path, parents: Mapping[str, ModelVersion]) -> ModelVersion:
    """The model that `run` made from its `parents` (by role), as its attempt left it in `output`.

    Called inside the transaction that ends the run.
    """
    manifest = json.loads((output / MANIFEST).read_text("utf-8"))
    stage = stages.find(run.stage)
    model = ModelVersion(
        project=run.project,
        kind=stage.kind,
        number=ModelVersion.objects.next_number(run.project, stage.kind),
        parent=parents.get(stage.starts_from),
        reward=parents.get(ParentRole.REWARD),
        reference=parents.get(ParentRole.REFERENCE),
        run=run,
        attempt=run.fence,
        snapshot=run.snapshot,
        manifest=manifest,
        manifest_sha256=manifest["sha256"],
        config=json.loads((run.directory / "config.json").read_text("utf-8")),
        metrics=run.metrics,
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
