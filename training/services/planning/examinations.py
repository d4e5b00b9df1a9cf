"""Examinations: a worker's look at what the next round would train on, asked for by the page that shows its plan.

The web process has no tokenizer. It writes a row that names what is to be looked at, rings for a worker, and shows
what the row says once somebody has written it. The button waits for a worker that is at it, however long that takes,
and for nobody else: a round is not to be kept from starting by a look that nobody takes, and the engine refuses bad
input itself.
"""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.db import transaction
from django.db.models import Count, Max, Q, QuerySet, Sum
from django.db.models.functions import Now
from django.utils import timezone

from annotate.models import Project, Prompt, Split
from training import doorbell, stages
from training.models import Examination, ModelVersion, Stage, TrainingSettings
from training.services.labels import snapshots, trainable_labels
from training.services.machines import workers
from training.services.planning.plans import Plan
from training.services.registry import configs
from training.services.run_files import directories
from training.stages.planning import StagePlan

TASK = "training.examine.v1"
AGAIN_AFTER = timedelta(seconds=30)  # a message may be lost
PAUSE = timedelta(seconds=20)  # between two looks at a project whose labels change all the time
RECENT = timedelta(seconds=60)  # a look says something for so long after a label has come; a button waits no longer
RETRY_AFTER = timedelta(seconds=60)  # a look may have failed by chance
SILENT_AFTER = timedelta(seconds=30)  # nobody is at a look that has said nothing for so long: it is asked for again
SCHEMA = 2  # of what a finding says; looks of another one are taken again
KEPT = 3  # of a project

Status = Examination.Status


def current(project: Project, plan: Plan, training: TrainingSettings) -> Examination:
    """What is known of the records that `plan` would train on; asks a worker where nobody has looked yet.

    Raises InvalidInput for settings that the engine refuses.
    """
    key = key_of(project, plan, training)
    looks = _looks(project, key)
    if same := next((look for look in looks if look.key == key), None):
        if not is_under_way(same):
            _ask_again(same)
    elif not looks or timezone.now() - looks[0].created_at > PAUSE:
        looks = [_ask(project, key), *looks]
    return _most_telling(looks, key) or looks[0]


def known(project: Project, plan: Plan, training: TrainingSettings) -> Examination | None:
    """The same without asking anybody; None where nobody has looked or was asked lately."""
    key = key_of(project, plan, training)
    return _most_telling(_looks(project, key), key)


def is_awaited(examination: Examination) -> bool:
    """A worker is at it, or is there that will be in a moment: it was asked lately, or was at another look till now."""
    if examination.status != Status.PENDING:
        return False
    if is_under_way(examination):
        return True
    looks = Examination.objects.filter(project=examination.project_id, alive_at__gt=Now() - RECENT)
    is_next = timezone.now() - examination.created_at < RECENT or looks.exists()
    return is_next and workers.alive("default").exists()


def is_under_way(examination: Examination) -> bool:
    """A worker has begun with it and is alive."""
    if examination.status != Status.PENDING or examination.started_at is None:
        return False
    return Examination.objects.filter(pk=examination.pk, alive_at__gt=Now() - SILENT_AFTER).exists()


def key_of(project: Project, plan: Plan, training: TrainingSettings) -> str:
    """One half for models and settings, one for usable labels: each is equal as long as these are.

    Raises InvalidInput for settings that are refused.
    """
    models = ModelVersion.objects.filter(project=project, weights_deleted_at=None).order_by("pk")
    ground = [SCHEMA, request_for(plan, training), list(models.values_list("manifest_sha256", flat=True))]
    labels = [
        _sum_of(trainable_labels.demonstrations(project)),
        _sum_of(trainable_labels.rankings(project, Split.TRAIN)),
        _sum_of(Prompt.objects.active().filter(project=project)),
    ]
    return _half(ground) + _half(labels)


def request_for(plan: Plan, training: TrainingSettings) -> dict[str, Any]:
    """What training.rlhf.examinations.dataset reads. Raises InvalidInput for settings that the engine refuses."""
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
        directories.write_records(directory / "data" / f"{name}.jsonl", rows)
    (directory / "request.json").write_text(json.dumps(request_for(plan, training)), "utf-8")


def take(pk: int) -> Examination | None:
    """The examination `pk` for a worker to do; None where it is done, or in another worker's hands."""
    nobody_is_at_it = Q(alive_at=None) | Q(alive_at__lt=Now() - SILENT_AFTER)
    free = Examination.objects.filter(nobody_is_at_it, pk=pk, status=Status.PENDING)
    taken = free.update(started_at=Now(), alive_at=Now(), error="", ending={})
    return Examination.objects.get(pk=pk) if taken else None


def beat(examination: Examination) -> None:
    """Say that somebody is at it."""
    Examination.objects.filter(pk=examination.pk, status=Status.PENDING).update(alive_at=Now())


def settle(examination: Examination, **changes: Any) -> None:
    """Write down what came of `examination`."""
    Examination.objects.filter(pk=examination.pk, status=Status.PENDING).update(**changes)


def _looks(project: Project, key: str) -> list[Examination]:
    """The newest first; models and settings were the same as now, the labels perhaps not."""
    ground = key[: len(key) // 2]
    return list(Examination.objects.filter(project=project, key__startswith=ground).order_by("-pk"))


def _most_telling(looks: list[Examination], key: str) -> Examination | None:
    """The look at exactly this, else a recent one at other labels, else one that somebody was asked for."""
    recent = timezone.now() - RECENT
    exact = [look for look in looks if look.key == key and look.status != Status.PENDING]
    others = [look for look in looks if look.status == Status.DONE and look.created_at > recent]
    asked = sorted((look for look in looks if look.status == Status.PENDING), key=is_under_way, reverse=True)
    return next(iter(exact + others + asked), None)


def _ask_again(examination: Examination) -> None:
    """Ring again where the message may have been lost, and ask again for a look that failed."""
    rung_before = timezone.now() - (AGAIN_AFTER if examination.status == Status.PENDING else RETRY_AFTER)
    if examination.status == Status.DONE or (examination.rung_at and examination.rung_at > rung_before):
        return
    if examination.status == Status.FAILED:
        failed = Examination.objects.filter(pk=examination.pk, status=Status.FAILED)
        failed.update(status=Status.PENDING, started_at=None, alive_at=None)
    _ring(examination)


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
    parent = stage.parents[stages.find(stage.stage).starts_from]
    return parent.model_version or _reader(plan, plan.stage(parent.stage or Stage.SFT))


def _existing(plan: Plan) -> dict[int, ModelVersion]:
    """The parents of the plan's stages that are there already, by their ids."""
    parents = [parent for stage in plan.stages for parent in stage.parents.values()]
    return ModelVersion.objects.in_bulk([parent.model_version for parent in parents if parent.model_version])


def _half(state: list[Any]) -> str:
    """32 of the 64 characters of a key."""
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:32]


def _sum_of(rows: QuerySet[Any]) -> list[int]:
    """How many rows there are and which, in three numbers."""
    found = rows.aggregate(number=Count("pk"), newest=Max("pk"), sum=Sum("pk"))
    return [found["number"], found["newest"] or 0, int(found["sum"] or 0)]  # PostgreSQL sums to a Decimal
