"""Model versions: taking what an attempt wrote into the registry, in one step and under the attempt's fence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django.db import transaction
from django.db.models import Q

from training import stages
from training.models import ModelVersion, Run, Snapshot
from training.rlhf.run.manifest import MANIFEST
from training.services.planning import plans
from training.services.run_files import directories


def publish(run: Run, output: Path) -> ModelVersion:
    """The model that `run` made, from its attempt's `output`. Called inside the transaction that ends the run."""
    manifest = json.loads((output / MANIFEST).read_text("utf-8"))
    parents = plans.parents_of(run)
    stage = stages.find(run.stage)
    model = ModelVersion(
        project=run.project,
        kind=stage.kind,
        number=ModelVersion.objects.next_number(run.project, stage.kind),
        parent=parents.get(stage.starts_from),
        reward=parents.get("reward"),
        reference=parents.get("reference"),
        run=run,
        attempt=run.fence,
        snapshot=run.snapshot,
        manifest=manifest,
        manifest_sha256=manifest["sha256"],
        config=json.loads((run.directory / "config.json").read_text("utf-8")),
        metrics=run.metrics,
        uses_withdrawn_labels=_is_tainted(run, parents.values()),
    )
    _place(output, model.directory)
    # A rollback must not leave weights that no row knows; a crash right here may, and costs only their room.
    try:
        model.save()
    except BaseException:
        shutil.rmtree(model.directory, ignore_errors=True)
        raise
    return model


def mark_withdrawn(label: str, ids: Iterable[int]) -> None:
    """Mark the snapshots that hold these labels, and every model that came of them.

    `label` is demonstration or ranking.
    """
    with transaction.atomic():
        snapshots = Snapshot.objects.filter(**{f"{label}s__in": list(ids)}).values_list("pk", flat=True)
        tainted = list(snapshots)
        Snapshot.objects.filter(pk__in=tainted).update(uses_withdrawn_labels=True)
        found = ModelVersion.objects.filter(snapshot__in=tainted)
        while fresh := list(found.filter(uses_withdrawn_labels=False).values_list("pk", flat=True)):
            ModelVersion.objects.filter(pk__in=fresh).update(uses_withdrawn_labels=True)
            found = ModelVersion.objects.filter(Q(parent__in=fresh) | Q(reward__in=fresh) | Q(reference__in=fresh))


def _is_tainted(run: Run, parents: Iterable[ModelVersion]) -> bool:
    snapshot: Any = run.snapshot
    return any(parent.uses_withdrawn_labels for parent in parents) or bool(snapshot and snapshot.uses_withdrawn_labels)


def _place(output: Path, target: Path) -> None:
    """`output` under the name of the model: whole or not there."""
    draft = target.with_name(f".{target.name}.draft")
    draft.mkdir(parents=True)
    for path in output.iterdir():
        directories.link_or_copy(path, draft / path.name)
    draft.replace(target)
