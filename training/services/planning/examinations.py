"""Examinations: a worker finds out what the page with a round's plan shows: what the round would train on, and how much
memory each stage needs (training/services/planning/memory_counts.py).

The web process has no tokenizer and no torch. It creates a row that names what is to be examined, rings for a worker,
and shows what the worker has written to the row. The button waits for a worker that examines the records, however long
that takes, and for nothing else: an examination that no worker takes must not keep a round from starting, and the
engine refuses bad input itself.
"""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import Count, Max, Q, QuerySet, Sum
from django.db.models.functions import Now
from django.utils import timezone

from annotate.models import Project, Prompt, Split
from training import doorbell, stages
from training.models import Examination, ModelVersion, TrainingSettings, Worker
from training.services.labels import snapshots, trainable_labels
from training.services.planning.plans import Plan
from training.services.registry import configs
from training.services.run_files import directories
from training.stages import Stage
from training.stages.planning import StagePlan

TASK = "training.examine.v1"
UNHEARD_AFTER = timedelta(seconds=30)  # a message may be lost: what still waits then is rung for again
PAUSE = timedelta(seconds=20)  # between two examinations of a project whose labels change all the time
RECENT = timedelta(seconds=60)  # how long findings still hold after a label has come; a button waits no longer
RETRY_AFTER = timedelta(seconds=60)  # it may have failed by chance
REPLACED_AFTER = timedelta(seconds=30)  # of silence: then another worker may take it, since a person waits for it
SCHEMA = 3  # of the findings; what was examined under another one is examined again
KEPT = 3  # examinations of a kind and project

Kind = Examination.Kind
Status = Examination.Status


class Pace(NamedTuple):
    """How often a kind is examined while its page is open."""

    pause: timedelta  # between two examinations of a project whose labels change all the time
    holds: timedelta  # how long what was found still holds after a label has come
    retry: timedelta  # after it failed


# A few labels more hardly change how much memory a stage needs, and counting it takes longer.
PACES = {
    Kind.RECORDS: Pace(PAUSE, RECENT, RETRY_AFTER),
    Kind.MEMORY: Pace(timedelta(minutes=10), timedelta(days=1), timedelta(minutes=10)),
}


def current(project: Project, kind: Kind, key: str) -> Examination:
    """What is known of what `key` stands for; asks a worker where it has not been examined."""
    known = _of_models_and_settings(project, kind, key)
    if same := next((examination for examination in known if examination.key == key), None):
        if not is_under_way(same):
            _ask_again(same)
    elif not known or timezone.now() - known[0].created_at > PACES[kind].pause:
        known = [_ask(project, kind, key), *known]
    return _most_relevant(known, key) or known[0]


def find(project: Project, kind: Kind, key: str) -> Examination | None:
    """The same without asking a worker; None where nothing is known and no worker was asked."""
    return _most_relevant(_of_models_and_settings(project, kind, key), key)


def is_awaited(examination: Examination) -> bool:
    """Whether a worker does it, or soon will: one is alive and was asked, or was busy with another one, recently."""
    if examination.status != Status.PENDING:
        return False
    if is_under_way(examination):
        return True
    same_kind = Examination.objects.filter(project=examination.project_id, kind=examination.kind)
    others = same_kind.filter(alive_at__gt=Now() - RECENT)
    is_next = timezone.now() - examination.created_at < RECENT or others.exists()
    return is_next and Worker.objects.alive("default").exists()


def is_under_way(examination: Examination) -> bool:
    """Whether a worker has begun with it and is alive."""
    if examination.status != Status.PENDING or examination.started_at is None:
        return False
    return Examination.objects.filter(pk=examination.pk, alive_at__gt=Now() - REPLACED_AFTER).exists()


def key_of(project: Project, plan: Plan, training: TrainingSettings) -> str:
    """One half for models and settings, one for usable labels: each stays the same as long as these do.

    Raises InvalidInput for settings that are refused.
    """
    models = ModelVersion.objects.with_weights().filter(project=project).order_by("pk")
    models_and_settings = [SCHEMA, request_for(plan, training), list(models.values_list("manifest_sha256", flat=True))]
    return make_key(project, models_and_settings)


def make_key(project: Project, models_and_settings: list[Any]) -> str:
    """The key of `models_and_settings` and of the labels that are usable now."""
    labels = [
        _fingerprint(trainable_labels.demonstrations(project)),
        _fingerprint(trainable_labels.rankings(project, Split.TRAIN)),
        _fingerprint(Prompt.objects.active().filter(project=project)),
    ]
    return _digest(models_and_settings) + _digest(labels)


def request_for(plan: Plan, training: TrainingSettings) -> dict[str, Any]:
    """What training.rlhf.examinations.dataset reads. Raises InvalidInput for settings that the engine refuses."""
    planned = [parent for stage in plan.stages for parent in stage.parents.values()]
    existing = ModelVersion.objects.in_bulk([parent.model_version for parent in planned if parent.model_version])
    models: dict[str, str] = {}
    examined: dict[str, dict[str, Any]] = {}
    for stage in plan.stages:
        if not stage.will_run or not stages.find(stage.stage).config.examined_records:
            continue
        model = existing[_reader(plan, stage)]
        parents = dict.fromkeys(stage.parents, model)
        config = configs.make(training, stage.stage, round_number=plan.number, parents=parents)
        others = [existing[one.model_version] for one in stage.parents.values() if one.model_version]
        models |= {one.name: str(one.directory) for one in [model, *others]}
        examined[stage.stage] = {"model": model.name, "max_response": config.max_response}  # type: ignore[attr-defined]
    return {"models": models, "stages": examined}


def write_request(project: Project, plan: Plan, directory: Path) -> None:
    """Write what is to be examined into `directory`, which must not exist."""
    training = TrainingSettings.objects.get(project=project)
    (directory / "data").mkdir(parents=True)
    for name, rows in snapshots.gather(project).records.items():
        directories.write_records(directory / "data" / f"{name}.jsonl", rows)
    (directory / "request.json").write_text(json.dumps(request_for(plan, training)), "utf-8")


def claim(pk: int) -> Examination | None:
    """The examination `pk` for a worker to do; None where it is done, or another worker does it."""
    is_free = Q(alive_at=None) | Q(alive_at__lt=Now() - REPLACED_AFTER)
    free = Examination.objects.pending().filter(is_free, pk=pk)
    is_claimed = free.update(started_at=Now(), alive_at=Now(), error="", ending={})
    return Examination.objects.get(pk=pk) if is_claimed else None


def heartbeat(examination: Examination) -> None:
    """Store that the worker which does it is alive."""
    Examination.objects.pending().filter(pk=examination.pk).update(alive_at=Now())


def release(examination: Examination) -> None:
    """Leave it to another worker, which may take it at once."""
    Examination.objects.pending().filter(pk=examination.pk).update(alive_at=None)


def finish(examination: Examination, **changes: Any) -> None:
    """Store what came of `examination`."""
    Examination.objects.pending().filter(pk=examination.pk).update(**changes)


def _of_models_and_settings(project: Project, kind: Kind, key: str) -> list[Examination]:
    """The examinations of the same models and settings, of whatever labels, the newest first."""
    same = Examination.objects.filter(project=project, kind=kind, key__startswith=key[: len(key) // 2])
    return list(same.order_by("-pk"))


def _most_relevant(known: list[Examination], key: str) -> Examination | None:
    """The one of exactly these labels, else a recent one of other labels, else one that a worker was asked for."""
    now = timezone.now()
    exact = [one for one in known if one.key == key and one.status != Status.PENDING]
    done = [one for one in known if one.status == Status.DONE]
    recent = [one for one in done if now - one.created_at < PACES[Kind(one.kind)].holds]
    asked = sorted((one for one in known if one.status == Status.PENDING), key=is_under_way, reverse=True)
    return next(iter(exact + recent + asked), None)


def _ask_again(examination: Examination) -> None:
    """Ring again where the message may have been lost, and ask again for an examination that failed."""
    retry = PACES[Kind(examination.kind)].retry
    rung_before = timezone.now() - (UNHEARD_AFTER if examination.status == Status.PENDING else retry)
    if examination.status == Status.DONE or (examination.rung_at and examination.rung_at > rung_before):
        return
    if examination.status == Status.FAILED:
        failed = Examination.objects.filter(pk=examination.pk, status=Status.FAILED)
        failed.update(status=Status.PENDING, started_at=None, alive_at=None)
    _ring(examination)


def _ask(project: Project, kind: Kind, key: str) -> Examination:
    with transaction.atomic():
        asked, is_new = Examination.objects.get_or_create(project=project, kind=kind, key=key)
        if is_new:
            others = Examination.objects.filter(project=project, kind=kind)
            kept = others.order_by("-pk").values_list("pk", flat=True)[:KEPT]
            others.exclude(pk__in=list(kept)).delete()
    _ring(asked)
    return asked


def _ring(examination: Examination) -> None:
    doorbell.ask(TASK, examination.pk)
    Examination.objects.filter(pk=examination.pk).update(rung_at=timezone.now())


def _reader(plan: Plan, stage: StagePlan) -> int:
    """The id of the model whose tokenizer reads the stage's records: a model of the round has that of its parent."""
    parent = stage.parents[stages.find(stage.stage).starts_from]
    return parent.model_version or _reader(plan, plan.stage(parent.stage or Stage.SFT))


def _digest(state: list[Any]) -> str:
    """32 of the 64 characters of a key."""
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:32]


def _fingerprint(rows: QuerySet[Any]) -> list[int]:
    """How many rows there are and which, in three numbers."""
    found = rows.aggregate(number=Count("pk"), newest=Max("pk"), sum=Sum("pk"))
    return [found["number"], found["newest"] or 0, int(found["sum"] or 0)]  # PostgreSQL sums to a Decimal
