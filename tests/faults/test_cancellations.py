"""A cancellation lands anywhere: the engine is asked to stop within 15 s, and all is over within 90 s."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from annotate.models import Member, Project
from tests.faults.failpoints import Failpoints, meanwhile
from tests.faults.invariants import Invariants
from tests.faults.processes import Processes, engines, product_times, wait_until
from tests.faults.toy_project import done_by
from tests.training import machine
from training.models import LostRace, ModelVersion, Round, Run
from training.rlhf import exits
from training.services.running import rounds
from training.stages import Stage

ASKED_WITHIN_S = 15.0
OVER_WITHIN_S = 90.0
PATIENCE_S = 120.0
Status = Run.Status


@pytest.mark.database
@pytest.mark.parametrize(
    ("point", "where"),
    [("toy-step", "1"), ("toy-step", "5"), ("toy-mid-file", "5"), ("sealed-complete", "output")],
    ids=["start", "step", "checkpoint", "output"],
)
def test_a_cancellation_lands_anywhere(
    project: Project, invariants: Invariants, points: Failpoints, point: str, where: str
) -> None:
    armed = points.arm(point, "pause", where)
    round = rounds.open(project, opened_by=None)
    admin = invariants.admin()
    asked_at: list[float] = []
    thread = meanwhile(
        lambda: points.wait_for_pause(armed),
        lambda: asked_at.append(time.monotonic()),
        lambda: rounds.cancel(Round.objects.get(), actor=admin.user),
        lambda: points.resume(armed),
    )
    machine.work_off()
    assert time.monotonic() - asked_at[0] < OVER_WITHIN_S
    thread.join()
    round.refresh_from_db()
    assert (round.status, round.runs.get().status) == (Round.Status.CANCELLED, Status.CANCELLED)
    assert not ModelVersion.objects.filter(run__round=round).exists()
    invariants.check(says="cancelled")


@pytest.mark.slow
def test_a_cancellation_in_the_middle_of_an_answer_stops_ppo_at_once(
    processes: Processes, teaching: Project, judge: Member, points: Failpoints
) -> None:
    """With the heartbeats of the product: the next one brings the word."""
    machine.rank_new_slates(judge, 4)
    training = teaching.training_settings
    training.overrides["ppo"] |= {"iterations": 60, "max_response": 64, "checkpoint_seconds": 3600}
    training.save()
    invariants = Invariants(teaching)
    processes.environment = product_times()
    round = rounds.open(teaching, opened_by=None)
    processes.supervisor()
    drawing = pause_while_answers_are_drawn(points, after_step=3)
    run = round.runs.get(stage=Stage.PPO)
    (engine,) = engines(run.directory)

    os.kill(engine, signal.SIGSTOP)  # so that what it is asked stays to be seen
    asked_at = time.monotonic()
    rounds.cancel(round, actor=invariants.admin().user)
    wait_until(lambda: is_asked_to_stop(engine), within=ASKED_WITHIN_S)
    os.kill(engine, signal.SIGCONT)
    points.resume(drawing)
    over = round.runs.filter(pk=run.pk, status=Status.CANCELLED)
    wait_until(over.exists, within=OVER_WITHIN_S - (time.monotonic() - asked_at))
    run.refresh_from_db()
    assert (run.exit_code, run.error) == (exits.Interrupted.code, "stopped on request after step 3, with a checkpoint")
    assert not ModelVersion.objects.filter(run=run).exists()
    processes.stop_all()
    invariants.check(says="cancelled")


def pause_while_answers_are_drawn(points: Failpoints, *, after_step: int) -> Path:
    """Hold PPO in its sampler: nothing else says that it is alive between the end of a step and the next answers."""
    ended = points.arm("engine-alive", "pause", f"after step {after_step}")
    points.wait_for_pause(ended, within=PATIENCE_S)
    drawing = points.arm("engine-alive", "pause", f"after step {after_step}")
    points.resume(ended)
    points.wait_for_pause(drawing)
    return drawing


def is_asked_to_stop(pid: int) -> bool:
    """Whether a SIGTERM waits for a process that is stopped."""
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    waiting = int(status.split("ShdPnd:")[1].split()[0], 16)
    return bool(waiting & 1 << (signal.SIGTERM - 1))


@pytest.mark.slow
@pytest.mark.database
def test_a_cancellation_while_the_result_is_taken_leaves_all_of_it_or_nothing(
    processes: Processes, project: Project, invariants: Invariants, points: Failpoints
) -> None:
    armed = points.arm("publishing-taken", "pause")
    round = rounds.open(project, opened_by=None)
    processes.supervisor()
    points.wait_for_pause(armed)
    threading.Timer(0.5, points.resume, [armed]).start()
    with contextlib.suppress(LostRace):  # where the worker ends the round first
        rounds.cancel(round, actor=invariants.admin().user)  # waits for the transaction that publishes
    run = round.runs.get()
    wait_until(lambda: run.refresh_from_db() or run.status in Run.FINISHED, within=PATIENCE_S)
    processes.stop_all()
    assert run.status == Status.SUCCEEDED
    assert done_by(round) == "1" * 12
    round.refresh_from_db()
    assert round.status in (Round.Status.CANCELLED, Round.Status.SUCCEEDED)
    invariants.check(says=round.status)
