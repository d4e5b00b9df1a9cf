"""The platform is stopped in the middle of PPO, by Ctrl-C or by a deploy, and goes on after the start where it was."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from django.conf import settings

from annotate.models import Member, Project
from tests.faults.failpoints import Failpoints
from tests.faults.invariants import Invariants
from tests.faults.processes import FAST, Processes, engines, wait_until
from tests.faults.toy_project import done_by
from tests.training import machine
from tests.web_server import database_url
from training.models import Round, Run
from training.services.run_files import directories, metrics
from training.services.running import reconciler, rounds
from training.stages import Stage

pytestmark = [pytest.mark.slow]

PATIENCE_S = 120.0
AT_MOST_S = 60.0  # to write a checkpoint and leave
Status = Run.Status


class Platform:
    """Everything that runs on one machine, under supervisord as in production."""

    def __init__(self) -> None:
        (settings.DATA_DIR / "logs").mkdir(exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    def start(self) -> None:
        own = {"PORT": str(self.port), "PYTHON": sys.executable, "DATABASE_URL": database_url()}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "supervisor.supervisord", "-c", "deploy/supervisord.conf"],
            cwd=settings.BASE_DIR,
            env=os.environ | FAST | own | {"DJANGO_SETTINGS_MODULE": "config.settings"},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def stop(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(AT_MOST_S)


@pytest.fixture
def platform(processes: Processes, teaching: Project) -> Iterator[Platform]:
    platform = Platform()
    yield platform
    if platform.process.poll() is None:
        platform.process.kill()  # its programs end with it
        platform.process.wait()


def test_ppo_goes_on_after_a_restart_of_everything_from_a_checkpoint_made_on_the_way_out(
    platform: Platform, teaching: Project, judge: Member
) -> None:
    machine.rank_new_slates(judge, 4)
    training = teaching.training_settings
    training.overrides["ppo"] |= {"iterations": 60, "checkpoint_seconds": 3600}
    training.save()
    invariants = Invariants(teaching)
    round = rounds.open(teaching, opened_by=None)
    ppo = round.runs.filter(stage=Stage.PPO)
    wait_until(ppo.filter(step__gte=2).exists, within=PATIENCE_S)

    assert platform.stop(signal.SIGINT) == 0
    run = ppo.get()
    assert engines(run.directory) == []
    assert (run.status, run.attempt, run.fruitless_attempts) == (Status.QUEUED, 1, 0)
    [checkpoint] = run.directory.glob("attempts/1/checkpoints/step-*")
    reached = int(checkpoint.name.removeprefix("step-"))
    assert 2 <= reached < 60
    before = metrics.read(directories.attempt(run.directory, run.fence)).rows
    invariants.check(says=f"stopped on request after step {reached}, with a checkpoint")

    platform.start()
    wait_until(lambda: Round.objects.exclude(status=Round.Status.RUNNING).exists(), within=PATIENCE_S)
    assert platform.stop(signal.SIGTERM) == 0
    run = ppo.get()
    after = metrics.read(directories.attempt(run.directory, run.fence)).rows
    assert (run.status, run.attempt) == (Status.SUCCEEDED, 2)
    assert [row.step for row in after] == list(range(61))
    assert after[:reached] == before[:reached]  # with their times: none of them was done again
    invariants.check(says="stopped on request after step")


@pytest.mark.database
@pytest.mark.broker
@pytest.mark.parametrize("times", [1, 2])
def test_a_worker_told_to_stop_hands_its_run_back_and_another_goes_on(
    processes: Processes, project: Project, invariants: Invariants, points: Failpoints, times: int
) -> None:
    armed = points.arm("toy-step", "pause", 5)
    round = rounds.open(project, opened_by=None)
    worker = processes.worker("gpu")
    points.wait_for_pause(armed)
    for _ in range(times):  # some deploys are impatient
        worker.send_signal(signal.SIGTERM)
    points.resume_after(armed, 0.5)
    worker.wait(PATIENCE_S)
    wait_until(lambda: reconciler.sweep() or round.runs.get().status == Status.QUEUED, within=PATIENCE_S)
    run = round.runs.get()
    assert (run.attempt, run.fruitless_attempts) == (1, 0)
    machine.work_off()
    round.refresh_from_db()
    assert round.status == Round.Status.SUCCEEDED
    invariants.check(says="The previous one ended early: ")


@pytest.mark.parametrize("grace_s", [2, pytest.param(10, marks=pytest.mark.soak)])
def test_a_container_that_is_killed_before_its_engine_could_save_loses_one_checkpoint_at_most(
    processes: Processes, project: Project, invariants: Invariants, points: Failpoints, grace_s: float
) -> None:
    armed = points.arm("toy-step", "pause", 5)
    round = rounds.open(project, opened_by=None)
    worker = processes.worker("gpu")
    points.wait_for_pause(armed)
    container = processes.session(worker)
    assert engines(round.runs.get().directory)[0] in container
    worker.terminate()
    time.sleep(grace_s)
    for pid in container:
        processes.signal(pid, signal.SIGKILL)

    wait_until(lambda: reconciler.sweep() or round.runs.get().status == Status.QUEUED, within=PATIENCE_S)
    run = round.runs.get()
    assert (run.attempt, run.fruitless_attempts) == (1, 0)
    machine.work_off()
    assert done_by(round) == "1" * 4 + "3" * 8  # the fence of 2 was the sweep's
    invariants.check(says="The previous one ended early: Worker gpu-0@test stopped responding.")
