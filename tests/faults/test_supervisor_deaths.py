"""The process that supervises the engine is killed, frozen, or has a wrong clock: another one carries the run on."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from django.db import connection

from annotate.models import Project
from tests.faults.failpoints import Failpoints
from tests.faults.invariants import Invariants
from tests.faults.processes import Processes, engines, exit_status, parent_of, wait_until
from tests.faults.toy_project import done_by, make_toy_project
from tests.training import machine
from training import runner
from training.models import Round, Run, Sample
from training.rlhf import exits
from training.services.running import reconciler, rounds
from training.stages import Stage

pytestmark = [pytest.mark.slow]

PATIENCE_S = 30.0
EVERY_STAGE = (Stage.SFT, Stage.REWARD, Stage.PPO, Stage.EVALUATION, Stage.SAMPLING)
# A step of the engine, before the row knows of its end, before the commit that publishes, before the next stage.
STEP, ENDED, TAKEN, CONCLUDED = "toy-step", "engine-ended", "publishing-taken", "run-concluded"
KILLS = (
    [
        (STEP, Stage.SFT),
        (STEP, Stage.REWARD),
        (ENDED, Stage.REWARD),
        (TAKEN, Stage.PPO),
        (CONCLUDED, Stage.EVALUATION),
        (STEP, Stage.SAMPLING),
    ],
    [
        (TAKEN, Stage.SFT),
        (CONCLUDED, Stage.REWARD),
        (STEP, Stage.PPO),
        (STEP, Stage.EVALUATION),
        (ENDED, Stage.EVALUATION),
        (TAKEN, Stage.SAMPLING),
    ],
)
Status = Run.Status


def sweep_until_over(round: Round) -> None:
    def is_over() -> bool:
        reconciler.sweep()
        round.refresh_from_db()
        return not round.is_active

    wait_until(is_over, within=PATIENCE_S)


def kill_at(line: str, stage: str, processes: Processes, points: Failpoints, round: Round) -> None:
    """A supervisor takes the round to `line` of `stage` and is killed there."""
    armed = points.arm(line, *(["pause", f"7 of {stage}"] if line == STEP else ["kill", stage]))
    supervisor = processes.supervisor()
    wait_until(lambda: reconciler.sweep() or not armed.exists(), within=PATIENCE_S)
    if line == STEP:
        points.wait_for_pause(armed)
        processes.kill(supervisor)
        directory = round.runs.get(stage=stage).directory
        wait_until(lambda: not engines(directory), within=10)
        points.resume(armed)
    assert supervisor.wait(PATIENCE_S) == -signal.SIGKILL


@pytest.mark.parametrize("kills", [pytest.param(KILLS[0], marks=pytest.mark.database), KILLS[1]], ids=["0", "1"])
def test_the_supervisor_may_be_killed_in_every_stage_and_between_the_lines_that_publish(
    processes: Processes, toy: None, points: Failpoints, kills: list[tuple[str, str]]
) -> None:
    project = make_toy_project(of_every_stage=True)
    processes.environment = {"ROUNDTABLE_RUN_LEASE_S": "1", "ROUNDTABLE_RUN_HEARTBEAT_S": "0.2"}
    invariants = Invariants(project)
    round = rounds.open(project, opened_by=None)
    for line, stage in kills:
        kill_at(line, stage, processes, points, round)
    processes.supervisor()
    sweep_until_over(round)
    processes.stop_all()
    assert round.status == Round.Status.SUCCEEDED, round.error
    assert [run.stage for run in round.runs.order_by("pk")] == list(EVERY_STAGE)
    assert Sample.objects.count() == 4 * 2
    invariants.check(says="Worker gpu-0@test stopped responding.")


@pytest.mark.database
def test_a_frozen_supervisor_that_wakes_up_late_changes_nothing(
    processes: Processes, project: Project, invariants: Invariants, points: Failpoints
) -> None:
    armed = points.arm("toy-step", "pause", 5)
    round = rounds.open(project, opened_by=None)
    frozen = processes.supervisor()
    points.wait_for_pause(armed)
    directory = round.runs.get().directory
    (late,) = engines(directory)
    frozen.send_signal(signal.SIGSTOP)
    waiting = round.runs.filter(status=Status.QUEUED)
    wait_until(lambda: reconciler.sweep() or waiting.exists(), within=PATIENCE_S)
    other = points.arm("toy-step", "pause", 9)
    processes.supervisor()
    points.wait_for_pause(other)

    points.resume(armed)  # the engine of the frozen one wants to save step 5
    wait_until(lambda: exit_status(late) == exits.FenceLost.code, within=PATIENCE_S)
    frozen.send_signal(signal.SIGCONT)
    wait_until(lambda: not Path(f"/proc/{late}").exists(), within=PATIENCE_S)
    (working,) = engines(directory)
    assert parent_of(working) != frozen.pid
    points.resume(other)
    sweep_until_over(round)
    processes.stop_all()
    assert done_by(round) == "1" * 4 + "3" * 8  # the fence of 2 was the reconciler's
    assert not (directory / "attempts/1/checkpoints/step-000005").exists()
    invariants.check(says="Worker gpu-0@test stopped responding.")


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_supervisor_whose_clock_is_an_hour_off_and_then_set_right_works_like_any_other(
    processes: Processes, project: Project, invariants: Invariants, points: Failpoints, seconds: int
) -> None:
    armed = points.arm("toy-step", "pause", 5)
    round = rounds.open(project, opened_by=None)
    supervisor = processes.supervisor(f"--clock-ahead={seconds}")
    points.wait_for_pause(armed)
    for second in range(9):  # twice as long as it takes to lose a run in silence
        if second == 1:
            supervisor.send_signal(signal.SIGUSR1)
        reconciler.sweep()
        assert round.runs.get().status == Status.RUNNING
        time.sleep(1)
    points.resume(armed)
    sweep_until_over(round)
    processes.stop_all()
    assert done_by(round) == "1" * 12
    invariants.check(says="succeeded")


def test_a_run_that_kills_every_worker_is_given_up_while_the_others_go_on(
    processes: Processes, project: Project, invariants: Invariants
) -> None:
    processes.environment = {"ROUNDTABLE_RUN_LEASE_S": "1", "ROUNDTABLE_RUN_HEARTBEAT_S": "0.2"}
    poisoned = rounds.open(project, opened_by=None)
    (poisoned.runs.get().directory / "poison").touch()
    healthy = [rounds.open(make_toy_project(), opened_by=None) for _ in range(3)]
    workers = [processes.supervisor() for _ in range(3)]
    wait_until(lambda: reconciler.sweep() or all(one.poll() is not None for one in workers), within=PATIENCE_S)
    processes.supervisor()
    for round in (poisoned, *healthy):
        sweep_until_over(round)
    processes.stop_all()
    run = poisoned.runs.get()
    assert (run.status, run.attempt) == (Status.FAILED, 3)
    assert [round.status for round in healthy] == [Round.Status.SUCCEEDED] * 3
    invariants.check(says="stopped responding")


@pytest.mark.database
def test_ten_messages_at_once_late_and_for_what_is_over_start_one_engine(
    project: Project, invariants: Invariants, caplog: pytest.LogCaptureFixture
) -> None:
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
    assert caplog.messages.count(f"nothing to do for run {run.pk}") == 10
    run.refresh_from_db()
    assert (run.status, run.attempt, run.fence) == (Status.SUCCEEDED, 1, 1)
    assert os.listdir(run.directory / "attempts") == ["1"]
    invariants.check(says="succeeded")


def test_work_goes_on_where_the_snapshot_was_killed(
    project: Project, invariants: Invariants, points: Failpoints
) -> None:
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
    invariants.check()
    round = rounds.open(project, opened_by=None)
    machine.work_off()
    assert done_by(round) == "1" * 12
    invariants.check(says="succeeded")
