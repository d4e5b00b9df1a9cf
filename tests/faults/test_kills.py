"""What is killed in the middle of PPO is carried on by another attempt; the round ends with one published model."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from annotate.models import Member, Project
from tests.faults.invariants import Invariants
from tests.faults.processes import Processes, engines, kill_engine, parent_of, wait_until
from tests.training import machine
from training.models import ModelVersion, Round, Run
from training.services.running import rounds
from training.stages import Stage

pytestmark = [pytest.mark.slow, pytest.mark.database, pytest.mark.broker]

PATIENCE_S = 120.0  # an engine takes seconds to start on an idle machine, and tests share theirs


@pytest.mark.timeout(600)
def test_a_round_outlives_whatever_is_killed_in_the_middle_of_ppo(
    processes: Processes, teaching: Project, judge: Member
) -> None:
    machine.rank_new_slates(judge, 4)
    invariants = Invariants(teaching)
    training = teaching.training_settings
    training.overrides["ppo"] |= {"iterations": 60}
    training.save()
    round = rounds.open(teaching, opened_by=None)
    gpu_worker = processes.worker("gpu")
    processes.worker("default")
    processes.beat()

    directory = when_ppo_reaches(3)
    kill_engine(directory)

    when_ppo_reaches(15)
    processes.kill(gpu_worker)
    wait_until(lambda: not engines(directory), within=10)
    gpu_worker = processes.worker("gpu")

    when_ppo_reaches(30)
    # On a quick machine the attempt before has been there already: the new worker has to have the run by now.
    wait_until(lambda: Run.objects.running().filter(stage=Stage.PPO, attempt=3).exists(), within=PATIENCE_S)
    gpu_worker.send_signal(signal.SIGTERM)  # a restart: the engine may write its checkpoint
    assert gpu_worker.wait(PATIENCE_S) == 0
    waiting = Run.objects.get(stage=Stage.PPO)
    assert (waiting.status, waiting.fruitless_attempts) == (Run.Status.QUEUED, 0)
    processes.worker("gpu")

    wait_until(lambda: not Round.objects.active().exists(), within=PATIENCE_S)
    round.refresh_from_db()
    assert round.status == Round.Status.SUCCEEDED, round.error
    run = Run.objects.get(stage=Stage.PPO)
    assert run.attempt == 4
    assert run.step == run.total == 60
    assert ModelVersion.objects.get(kind=ModelVersion.Kind.PPO).attempt == run.fence
    invariants.check(says="succeeded")


def test_an_engine_dies_with_the_process_that_supervises_it(
    processes: Processes, teaching: Project, judge: Member
) -> None:
    machine.rank_new_slates(judge, 4)
    run = rounds.open(teaching, opened_by=None).runs.get()
    processes.worker("gpu")
    wait_until(lambda: engines(run.directory), within=PATIENCE_S)
    os.kill(parent_of(engines(run.directory)[0]), signal.SIGKILL)
    wait_until(lambda: not engines(run.directory), within=10)


def when_ppo_reaches(step: int) -> Path:
    """Wait until PPO has done `step` iterations; returns its run directory."""
    runs = Run.objects.filter(stage=Stage.PPO, status=Run.Status.RUNNING, step__gte=step)
    wait_until(runs.exists, within=PATIENCE_S)
    return runs.get().directory
