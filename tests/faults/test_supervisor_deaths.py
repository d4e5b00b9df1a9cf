"""The process that supervises the engine is killed, frozen, or has a wrong clock: another one carries the run on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading

import pytest
from django.db import connection

from annotate.models import Project
from tests.faults.failures import Failpoints
from tests.faults.processes import Machines, engines, parent_of, wait_until
from tests.faults.toy_project import make_toy_project
from tests.faults.witness import Witness
from tests.training import machine
from training import runner
from training.models import LostRace, ModelVersion, Round, Run, Sample, Stage
from training.services import reconciler, rounds

pytestmark = [pytest.mark.slow]

PATIENCE_S = 30.0
EVERY_STAGE = (Stage.SFT, Stage.REWARD, Stage.PPO, Stage.EVALUATION, Stage.SAMPLING)
# A step of the engine, before the row knows of its end, before the commit that publishes, before the next stage.
LINES = ("toy-step", "engine-ended", "publishing-taken", "run-concluded")
Status = Run.Status


def sweep_until_over(round: Round) -> None:
    def is_over() -> bool:
        reconciler.sweep()
        round.refresh_from_db()
        return not round.is_active

    wait_until(is_over, within=PATIENCE_S)


def done_by(round: Round) -> str:
    """Which attempt did each step of the model that `round` has published."""
    model = ModelVersion.objects.get(run__round=round)
    return "".join(json.loads((model.directory / "model.safetensors").read_text()))


def kill_at(line: str, stage: str, machines: Machines, points: Failpoints, round: Round) -> None:
    """A supervisor takes the round to `line` of `stage` and is killed there."""
    armed = points.arm(line, *(["pause", 7] if line == "toy-step" else ["kill", stage]))
    supervisor = machines.supervisor()
    wait_until(lambda: reconciler.sweep() or not armed.exists(), within=PATIENCE_S)
    if line == "toy-step":
        points.wait_for_pause(armed)
        machines.kill(supervisor)
        directory = round.runs.get(stage=stage).directory
        wait_until(lambda: not engines(directory), within=2)
        points.resume(armed)
    assert supervisor.wait(PATIENCE_S) == -signal.SIGKILL


@pytest.mark.parametrize("shift", [pytest.param(0, marks=pytest.mark.database), 2])
def test_the_supervisor_may_be_killed_in_every_stage_and_between_the_lines_that_publish(
    machines: Machines, toy: None, points: Failpoints, shift: int
) -> None:
    project = make_toy_project(of_every_stage=True)
    machines.environment = {"ROUNDTABLE_RUN_LEASE_S": "1", "ROUNDTABLE_RUN_HEARTBEAT_S": "0.2"}
    witness = Witness(project)
    round = rounds.open(project, opened_by=None)
    for number, stage in enumerate(EVERY_STAGE, shift):
        kill_at(LINES[number % len(LINES)], stage, machines, points, round)
    machines.supervisor()
    sweep_until_over(round)
    machines.stop_all()
    assert round.status == Round.Status.SUCCEEDED, round.error
    assert [run.stage for run in round.runs.order_by("pk")] == list(EVERY_STAGE)
    assert Sample.objects.count() == 4 * 2
    witness.attest(says="The worker gpu-0@test went silent.")


@pytest.mark.database
def test_a_frozen_supervisor_that_wakes_up_late_changes_nothing(
    machines: Machines, project: Project, witness: Witness, points: Failpoints
) -> None:
    armed = points.arm("toy-step", "pause", 5)
    round = rounds.open(project, opened_by=None)
    frozen = machines.supervisor()
    points.wait_for_pause(armed)
    frozen.send_signal(signal.SIGSTOP)
    waiting = round.runs.filter(status=Status.QUEUED)
    wait_until(lambda: reconciler.sweep() or waiting.exists(), within=PATIENCE_S)
    other = points.arm("toy-step", "pause", 9)
    machines.supervisor()
    points.wait_for_pause(other)

    frozen.send_signal(signal.SIGCONT)  # its engine wakes up with it and wants to save step 5
    points.resume(armed)
    directory = round.runs.get().directory
    wait_until(lambda: len(engines(directory)) == 1, within=PATIENCE_S)
    assert parent_of(engines(directory)[0]) != frozen.pid
    points.resume(other)
    sweep_until_over(round)
    machines.stop_all()
    assert done_by(round) == "1" * 4 + "3" * 8  # the fence of 2 was the reconciler's
    assert not (directory / "attempts/1/checkpoints/step-000005").exists()
    witness.attest(says="The worker gpu-0@test went silent.")


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_supervisor_whose_clock_is_an_hour_off_works_like_any_other(
    machines: Machines, project: Project, witness: Witness, points: Failpoints, seconds: int
) -> None:
    machines.environment = {"ROUNDTABLE_RUN_LEASE_S": "5", "ROUNDTABLE_RUN_HEARTBEAT_S": "0.5"}
    armed = points.arm("toy-step", "pause", 5)
    round = rounds.open(project, opened_by=None)
    machines.supervisor(f"--clock-ahead={seconds}")
    points.wait_for_pause(armed)
    for _ in range(6):  # longer than the lease
        reconciler.sweep()
        assert round.runs.get().status == Status.RUNNING
        threading.Event().wait(1)
    points.resume(armed)
    sweep_until_over(round)
    machines.stop_all()
    assert done_by(round) == "1" * 12
    witness.attest(says="succeeded")


def test_a_run_that_kills_every_worker_is_given_up_while_the_others_go_on(
    machines: Machines, project: Project, witness: Witness
) -> None:
    machines.environment = {"ROUNDTABLE_RUN_LEASE_S": "1", "ROUNDTABLE_RUN_HEARTBEAT_S": "0.2"}
    poisoned = rounds.open(project, opened_by=None)
    (poisoned.runs.get().directory / "poison").touch()
    healthy = [rounds.open(make_toy_project(), opened_by=None) for _ in range(3)]
    workers = [machines.supervisor() for _ in range(3)]
    wait_until(lambda: reconciler.sweep() or all(one.poll() is not None for one in workers), within=PATIENCE_S)
    machines.supervisor()
    for round in (poisoned, *healthy):
        sweep_until_over(round)
    machines.stop_all()
    run = poisoned.runs.get()
    assert (run.status, run.attempt) == (Status.FAILED, 3)
    assert [round.status for round in healthy] == [Round.Status.SUCCEEDED] * 3
    witness.attest(says="went silent")


@pytest.mark.database
def test_ten_messages_at_once_late_and_for_what_is_over_start_one_engine(project: Project, witness: Witness) -> None:
    round = rounds.open(project, opened_by=None)
    run = round.runs.get()

    def hear(number: int) -> None:
        try:
            runner.supervise(run.pk, owner=f"gpu-{number}@test")
        finally:
            connection.close()

    threads = [threading.Thread(target=hear, args=[number]) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    runner.supervise(run.pk, owner="late@test")
    run.refresh_from_db()
    assert (run.status, run.attempt, run.fence) == (Status.SUCCEEDED, 1, 1)
    assert os.listdir(run.directory / "attempts") == ["1"]
    witness.attest(says="succeeded")


@pytest.mark.database
def test_a_cancellation_while_the_result_is_taken_leaves_all_of_it_or_nothing(
    machines: Machines, project: Project, witness: Witness, points: Failpoints
) -> None:
    armed = points.arm("publishing-taken", "pause")
    round = rounds.open(project, opened_by=None)
    machines.supervisor()
    points.wait_for_pause(armed)
    threading.Timer(0.5, points.resume, [armed]).start()
    with contextlib.suppress(LostRace):  # where the worker ends the round first
        rounds.cancel(round, actor=witness.admin().user)  # waits for the transaction that publishes
    run = round.runs.get()
    wait_until(lambda: run.refresh_from_db() or run.status in Run.FINISHED, within=PATIENCE_S)
    machines.stop_all()
    assert run.status == Status.SUCCEEDED
    assert done_by(round) == "1" * 12
    round.refresh_from_db()
    assert round.status in (Round.Status.CANCELLED, Round.Status.SUCCEEDED)
    witness.attest(says=round.status)


def test_work_goes_on_where_the_snapshot_was_killed(project: Project, witness: Witness, points: Failpoints) -> None:
    """The process that opens a round dies between the frozen files and the rows that know them."""
    points.arm("sealed-renamed", "kill", "snapshots")
    pid = os.fork()
    if not pid:
        try:
            connection.connect()
            rounds.open(project, opened_by=None)
        finally:
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    assert not Round.objects.exists()
    witness.attest()
    round = rounds.open(project, opened_by=None)
    machine.work_off()
    assert done_by(round) == "1" * 12
    witness.attest(says="succeeded")
