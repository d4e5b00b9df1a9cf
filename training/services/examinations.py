"""Examinations: a worker's look at what the next round would train on, asked for by the page that shows its plan.

The web process has no tokenizer. It writes a row that names what is to be looked at, rings for a worker, and shows
what the row says once somebody has written it. Nothing waits for an examination: the engine refuses bad input itself.
"""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.db import transaction
from django.db.models import Count, Max, QuerySet, Sum
from django.utils import timezone

from annotate.models import Project, Prompt, Split
from training import doorbell
from training.models import Examination, ModelVersion, Stage, TrainingSettings
from training.services import configs, run_directories, snapshots, supply
from training.services.plans import Plan, StagePlan

TASK = "training.examine.v1"
AGAIN_AFTER = timedelta(seconds=30)  # a message may be lost
PAUSE = timedelta(seconds=20)  # between two looks at a project whose labels change all the time
KEPT = 3  # of a project
START_ROLE = {Stage.SFT: "base"}  # the parent whose tokenizer reads the stage's records; else the policy

Status = Examination.Status


def current(project: Project, plan: Plan, training: TrainingSettings) -> Examination:
    """The examination of what `plan` would train on now, or the newest while labels are still coming in.

    Asks for one where there is none. Raises InvalidInput for settings that the engine refuses.
    """
    key, now = key_of(project, plan, training), timezone.now()
    mine = Examination.objects.filter(project=project)
    if found := mine.filter(key=key).first():
        if found.status == Status.PENDING and (found.rung_at is None or now - found.rung_at > AGAIN_AFTER):
            _ring(found)
        return found
    newest = mine.order_by("pk").last()
    if newest and now - newest.created_at < PAUSE:
        return newest
    return _ask(project, key)


def done(project: Project, plan: Plan, training: TrainingSettings) -> Examination | None:
    """The finished examination of exactly what `plan` would train on, if there is one."""
    key = key_of(project, plan, training)
    return Examination.objects.filter(project=project, key=key, status=Status.DONE).first()


def key_of(project: Project, plan: Plan, training: TrainingSettings) -> str:
    """Equal as long as models, settings and usable labels are. Raises InvalidInput for settings that are refused."""
    request = request_for(plan, training)
    models = ModelVersion.objects.filter(project=project, weights_deleted_at=None).order_by("pk")
    state = {
        "request": request,
        "models": list(models.values_list("manifest_sha256", flat=True)),
        "labels": [
            _sum_of(rows)
            for rows in (
                supply.demonstrations(project),
                supply.rankings(project, Split.TRAIN),
                Prompt.objects.active().filter(project=project),
            )
        ],
    }
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def request_for(plan: Plan, training: TrainingSettings) -> dict[str, Any]:
    """What training.rlhf.examination reads. Raises InvalidInput for settings that the engine refuses."""
    there = _existing(plan)
    models: dict[str, str] = {}
    stages: dict[str, dict[str, Any]] = {}
    for stage in plan.stages:
        if not stage.will_run:
            continue
        model = there[_reader(plan, stage)]
        parents = dict.fromkeys(stage.parents, model)
        config = configs.make(training, stage.stage, round_number=plan.number, parents=parents)
        parts = [there[one.model_version] for one in stage.parents.values() if one.model_version]
        models |= {one.name: str(one.directory) for one in [model, *parts]}
        stages[stage.stage] = {"model": model.name, "max_response": config.max_response}  # type: ignore[attr-defined]
    return {"models": models, "stages": stages}


def write_request(project: Project, plan: Plan, directory: Path) -> None:
    """Write what is to be looked at into `directory`, which must not exist."""
    training = TrainingSettings.objects.get(project=project)
    (directory / "data").mkdir(parents=True)
    for name, rows in snapshots.gather(project).records.items():
        run_directories.write_records(directory / "data" / f"{name}.jsonl", rows)
    (directory / "request.json").write_text(json.dumps(request_for(plan, training)), "utf-8")


def take(pk: int) -> Examination | None:
    """The examination `pk` for a worker to do; None where it is done, or in another worker's hands."""
    now = timezone.now()
    free = Examination.objects.filter(pk=pk, status=Status.PENDING)
    free = free.filter(started_at=None) | free.filter(started_at__lt=now - timedelta(minutes=5))
    return Examination.objects.get(pk=pk) if free.update(started_at=now) else None


def settle(examination: Examination, **changes: Any) -> None:
    """Write down what came of `examination`."""
    Examination.objects.filter(pk=examination.pk, status=Status.PENDING).update(**changes)


def _ask(project: Project, key: str) -> Examination:
    with transaction.atomic():
        asked, is_new = Examination.objects.get_or_create(project=project, key=key)
        if is_new:
            kept = Examination.objects.filter(project=project).order_by("-pk").values_list("pk", flat=True)[:KEPT]
            Examination.objects.filter(project=project).exclude(pk__in=list(kept)).delete()
    _ring(asked)
    return asked


def _ring(examination: Examination) -> None:
    doorbell.ask(TASK, examination.pk)
    Examination.objects.filter(pk=examination.pk).update(rung_at=timezone.now())


def _reader(plan: Plan, stage: StagePlan) -> int:
    """The id of the model whose tokenizer reads the stage's records: what the round makes has its parent's."""
    parent = stage.parents[START_ROLE.get(Stage(stage.stage), "policy")]
    return parent.model_version or _reader(plan, plan.stage(parent.stage or Stage.SFT))


def _existing(plan: Plan) -> dict[int, ModelVersion]:
    """The parents of the plan's stages that are there already, by their ids."""
    parents = [parent for stage in plan.stages for parent in stage.parents.values()]
    return ModelVersion.objects.in_bulk([parent.model_version for parent in parents if parent.model_version])


def _sum_of(rows: QuerySet[Any]) -> list[int]:
    """How many rows there are and which, in three numbers."""
    found = rows.aggregate(number=Count("pk"), newest=Max("pk"), sum=Sum("pk"))
    return [found["number"], found["newest"] or 0, int(found["sum"] or 0)]  # PostgreSQL sums to a Decimal
