"""A project that has been through rounds: models with their snapshots, runs and curves, without any engine."""

from __future__ import annotations

import json
from collections.abc import Iterable

from django.utils import timezone

from annotate.models import Demonstration, Project, Ranking
from tests.training import machine
from training.models import ModelVersion, Round, Run, Snapshot
from training.services.planning.plans import Plan, PlannedParent, StagePlan
from training.services.run_files import directories
from training.stages import Stage


def make_round(
    project: Project,
    *models: str,
    demonstrations: Iterable[Demonstration] = (),
    rankings: Iterable[Ranking] = (),
    slates: int = 200,
) -> dict[str, ModelVersion]:
    """A finished round that made `models` (sft, reward, ppo) in their order, each from the newest before it."""
    snapshot = _snapshot(project, list(demonstrations), list(rankings))
    number = project.rounds.count() + 1
    round = Round.objects.create(
        project=project,
        number=number,
        status=Round.Status.SUCCEEDED,
        snapshot=snapshot,
        plan=Plan(number=number, obstacle="", stages=[]).to_json(),
        finished_at=timezone.now(),
    )
    made = {kind: _model(round, kind) for kind in models}
    writer = made.get("ppo") or made["sft"]
    parents = {"policy": PlannedParent(name=writer.name, model_version=writer.pk)}
    stages = [StagePlan(stage=Stage.SAMPLING, parents=parents)]
    Round.objects.filter(pk=round.pk).update(plan=Plan(number=number, obstacle="", stages=stages).to_json())
    _run(round, Stage.SAMPLING, {"sampling/slates": slates})
    return made


def write_curve(model: ModelVersion, **curves: list[float]) -> None:
    """Metrics as an engine writes them; `a__b` is the metric a/b."""
    assert model.run is not None
    attempt = directories.attempt(model.run.directory, model.attempt)
    attempt.mkdir(parents=True, exist_ok=True)
    names = {name: name.replace("__", "/") for name in curves}
    steps = max(map(len, curves.values()))
    lines = [
        {
            "step": step,
            "total": steps,
            "time": 0,
            "metrics": {names[name]: values[step - 1] for name, values in curves.items()},
        }
        for step in range(1, steps + 1)
    ]
    (attempt / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _snapshot(project: Project, demonstrations: list[Demonstration], rankings: list[Ranking]) -> Snapshot:
    counts = {"demonstrations": len(demonstrations), "rankings": len(rankings)}
    snapshot = Snapshot.objects.create(project=project, files={}, counts=counts, sha256="ab" * 32)
    snapshot.demonstrations.set(demonstrations)
    snapshot.rankings.set(rankings)
    return snapshot


def _model(round: Round, kind: str) -> ModelVersion:
    newest = {
        each: ModelVersion.objects.filter(project=round.project, kind=each).order_by("number").last()
        for each in list(ModelVersion.Kind)
    }
    parent = newest["base"] if kind == "sft" else newest["sft"]
    more = {"reward": newest["reward"], "reference": newest["sft"]} if kind == "ppo" else {}
    run = _run(round, kind, {})
    return machine.make_model(round.project, kind, parent=parent, run=run, attempt=1, snapshot=round.snapshot, **more)


def _run(round: Round, stage: str, metrics: dict[str, float]) -> Run:
    return Run.objects.create(
        project=round.project,
        round=round,
        stage=stage,
        snapshot=round.snapshot,
        status=Run.Status.SUCCEEDED,
        fence=1,
        metrics=metrics,
        finished_at=timezone.now(),
    )
