"""Many rounds under many faults: all of them finish, each has its effect once, and no answer is lost."""

from __future__ import annotations

import json
import os
import random

import pytest

from annotate.models import Demonstration, Ranking, Slate
from tests.faults.failpoints import Failpoints
from tests.faults.invariants import Invariants
from tests.faults.processes import Processes
from tests.faults.random_faults import RandomFaults
from training.models import ModelVersion, Round, Run

SEED = "ROUNDTABLE_FAULTS_SEED"  # a failure prints the one it had


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_rounds_finish_under_random_faults(processes: Processes, toy: None, points: Failpoints) -> None:
    run_and_check(processes, points, number=10, seconds=30)


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_rounds_finish_under_random_faults_for_ten_minutes(processes: Processes, toy: None, points: Failpoints) -> None:
    run_and_check(processes, points, number=100, seconds=600)


def run_and_check(processes: Processes, points: Failpoints, *, number: int, seconds: float) -> None:
    seed = int(os.environ.get(SEED) or random.SystemRandom().randrange(10**6))
    print(f"{SEED}={seed}")
    faults = RandomFaults(processes, points, seed=seed)
    try:
        faults.run(number, seconds=seconds)
    finally:
        faults.web.kill()
    processes.stop_all()

    every = Round.objects.all()
    print(f"{every.count()} rounds, {Run.objects.count()} runs, {dict(faults.injected)}")
    print(f"attempts {sum(Run.objects.values_list('attempt', flat=True))}")
    assert every.count() >= number
    assert {(round.status, round.error) for round in every} == {(Round.Status.SUCCEEDED, "")}
    makers = Run.objects.filter(stage__in=("sft", "reward", "ppo"), status=Run.Status.SUCCEEDED)
    assert {run.stage for run in makers} == {"sft", "reward", "ppo"}
    assert not makers.filter(model_version=None).exists()
    for model in ModelVersion.objects.exclude(kind=ModelVersion.Kind.BASE):
        attempts = [int(fence) for fence in json.loads((model.directory / "model.safetensors").read_text())]
        assert len(attempts) == 12
        assert attempts == sorted(attempts)
    for run in Run.objects.filter(stage="sampling", status=Run.Status.SUCCEEDED):
        asked = (run.directory / "data" / "prompts.jsonl").read_text().splitlines()
        answered = Slate.objects.filter(completions__sample__run=run).distinct()
        assert sorted(str(json.loads(line)["id"]) for line in asked) == sorted(
            str(slate.prompt_id) for slate in answered
        )
    stored = Demonstration.objects.filter(text__startswith="Answer ").values_list("text", flat=True)
    assert sorted(stored) == sorted(faults.accepted)
    assert Ranking.objects.filter(slate__completions__sample__isnull=False).distinct().count() == faults.ranked
    for project in faults.projects:
        Invariants(project).check(says="succeeded")
