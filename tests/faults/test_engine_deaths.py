"""The engine dies, hangs, is starved of disk or damages what it writes: the run goes on from its last checkpoint."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_django import Settings

from annotate.models import Project
from tests.faults.failpoints import Failpoints, meanwhile
from tests.faults.invariants import Invariants
from tests.faults.processes import engines, kill_engine
from tests.faults.toy_project import done_by
from tests.training import machine
from training.models import ModelVersion, Round, Run
from training.rlhf import exits
from training.services.running import rounds, runs

pytestmark = [pytest.mark.database]
Status = Run.Status
GIBIBYTE = 2**30


def train(project: Project) -> Round:
    """A round, seen through in this process."""
    round = rounds.open(project, opened_by=None)
    machine.work_off()
    round.refresh_from_db()
    return round


@pytest.mark.parametrize(
    ("point", "where", "lost"),
    [
        ("sealed-begins", "step-000005", 8),
        ("toy-mid-file", "5", 8),
        ("sealed-filled", "step-000005", 8),
        ("sealed-complete", "step-000005", 8),
        ("sealed-renamed", "step-000005", 7),
        ("sealed-renamed", "output", 0),
    ],
)
def test_a_kill_on_any_line_of_a_checkpoint_costs_that_checkpoint_at_most(
    project: Project, invariants: Invariants, points: Failpoints, point: str, where: str, lost: int
) -> None:
    points.arm(point, "kill", where)
    round = train(project)
    assert round.status == Round.Status.SUCCEEDED
    assert done_by(round) == "1" * (12 - lost) + "2" * lost
    invariants.check(says="Finished after 2 attempts. The previous one ended early: The engine was killed by SIGKILL.")


def test_an_engine_that_dies_three_times_without_progress_fails_the_round_in_words(
    project: Project, invariants: Invariants, points: Failpoints
) -> None:
    for _ in range(3):
        points.arm("toy-step", "kill", 1)
    round = train(project)
    assert round.status == Round.Status.FAILED
    run = round.runs.get()
    assert (run.status, run.attempt, run.fruitless_attempts) == (Status.FAILED, 3, 2)
    invariants.check(says="The engine was killed by SIGKILL.")


def test_an_engine_that_dies_again_and_again_but_gets_on_is_carried_through(
    project: Project, invariants: Invariants, points: Failpoints
) -> None:
    for step in (3, 5, 7, 9, 11):
        points.arm("toy-step", "kill", step)
    round = train(project)
    assert done_by(round) == "112233445566"
    invariants.check(says="Finished after 6 attempts.")


def test_a_hung_engine_is_killed_with_all_its_processes_and_goes_on(
    project: Project, invariants: Invariants, points: Failpoints, settings: Settings
) -> None:
    settings.RUN_STALL_S = 3.0
    armed = points.arm("toy-step", "pause", 5)
    run = rounds.open(project, opened_by=None).runs.get()
    thread = meanwhile(
        lambda: points.wait_for_pause(armed), lambda: [os.kill(pid, signal.SIGSTOP) for pid in engines(run.directory)]
    )
    machine.work_off()
    thread.join()
    assert done_by(Round.objects.get()) == "1" * 4 + "2" * 8
    invariants.check(says="The engine made no progress for 0 minutes.")


def test_a_full_disk_holds_the_run_until_there_is_room_and_keeps_the_last_checkpoint(
    project: Project, invariants: Invariants, points: Failpoints
) -> None:
    points.arm("sealed-filled", "disk_full", "step-000005")
    round = train(project)
    held = round.runs.get()
    assert (round.status, held.status, held.exit_code) == (Round.Status.RUNNING, Status.HELD, exits.NeedsPerson.code)
    invariants.check(says="the disk is full: [Errno 28] No space left on device")

    runs.release_after_disk_shortage()
    machine.work_off()
    assert done_by(round) == "1" * 4 + "2" * 8
    invariants.check(says="succeeded")


def test_a_run_that_always_fills_the_disk_waits_for_a_person(
    project: Project, invariants: Invariants, points: Failpoints
) -> None:
    for _ in range(3):
        points.arm("sealed-filled", "disk_full", "step-000001")
    round = train(project)
    for _ in range(4):
        runs.release_after_disk_shortage()
        machine.work_off()
    held = round.runs.get()
    assert (held.status, held.attempt) == (Status.HELD, 3)

    runs.release(held)
    machine.work_off()
    assert done_by(round) == "4" * 12
    invariants.check(says="succeeded")


def test_too_little_room_on_the_disk_holds_a_run_before_it_starts(
    project: Project, invariants: Invariants, settings: Settings
) -> None:
    free = shutil.disk_usage(settings.DATA_DIR).free
    settings.MIN_FREE_BYTES = free + GIBIBYTE
    round = train(project)
    held = round.runs.get()
    assert (held.status, held.exit_code) == (Status.HELD, exits.NeedsPerson.code)
    assert not (held.directory / "attempts" / "1" / "engine.log").exists()
    runs.release_after_disk_shortage()
    assert round.runs.get().status == Status.HELD
    invariants.check(says="must stay free. The run continues automatically once there is enough space.")

    settings.MIN_FREE_BYTES = 0
    runs.release_after_disk_shortage()
    machine.work_off()
    assert done_by(round) == "2" * 12


def test_a_disk_that_fills_up_on_the_way_stops_the_run_with_a_checkpoint(
    project: Project, invariants: Invariants, points: Failpoints, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    armed = points.arm("toy-step", "pause", 5)

    def fill_up() -> None:
        settings.MIN_FREE_BYTES = 2**62

    round = rounds.open(project, opened_by=None)
    stopped = round.runs.filter(status=Status.HELD)
    thread = meanwhile(lambda: points.wait_for_pause(armed), fill_up, lambda: points.resume_after(armed, 1.5))
    machine.work_off()
    thread.join()
    assert stopped.exists()
    invariants.check(says="must stay free. The run continues automatically once there is enough space.")

    settings.MIN_FREE_BYTES = 0
    runs.release_after_disk_shortage()
    machine.work_off()
    assert done_by(round) == "1" * 5 + "2" * 7
    invariants.check()


def test_numbers_that_went_wrong_are_not_tried_again_and_never_published(
    project: Project, invariants: Invariants
) -> None:
    round = rounds.open(project, opened_by=None)
    config = round.runs.get().directory / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"seed": -1}))
    machine.work_off()
    run = round.runs.get()
    assert (run.status, run.attempt) == (Status.FAILED, 1)
    assert not ModelVersion.objects.filter(run__round=round).exists()
    invariants.check(says="the loss was not finite three times in a row")


def test_an_engine_out_of_memory_is_started_again(project: Project, invariants: Invariants, points: Failpoints) -> None:
    armed = points.arm("toy-step", "pause", 5)
    run = rounds.open(project, opened_by=None).runs.get()
    # What the kernel does to the largest process when there is no memory left.
    thread = meanwhile(lambda: points.wait_for_pause(armed), lambda: kill_engine(run.directory))
    machine.work_off()
    thread.join()
    points.resume(armed)
    assert done_by(Round.objects.get()) == "1" * 4 + "2" * 8
    invariants.check(says="The engine was killed by SIGKILL.")


def flip_a_byte(output: Path) -> None:
    weights = output / "model.safetensors"
    weights.write_bytes(bytes([weights.read_bytes()[0] ^ 1]) + weights.read_bytes()[1:])


def lose_the_manifest(output: Path) -> None:
    (output / "manifest.json").unlink()


def slip_in_a_pickle(output: Path) -> None:
    (output / "pytorch_model.bin").write_bytes(b"code that somebody wants to be run")


@pytest.mark.parametrize("damage", [flip_a_byte, lose_the_manifest, slip_in_a_pickle])
def test_an_output_that_is_not_as_the_engine_wrote_it_is_never_published(
    project: Project, invariants: Invariants, points: Failpoints, damage: Callable[[Path], None]
) -> None:
    armed = points.arm("engine-ended", "pause")
    round = rounds.open(project, opened_by=None)
    output = round.runs.get().directory / "attempts" / "1" / "output"
    thread = meanwhile(lambda: points.wait_for_pause(armed), lambda: damage(output), lambda: points.resume(armed))
    machine.work_off()
    thread.join()
    model = ModelVersion.objects.get(run__round=round)
    assert (model.attempt, done_by(round)) == (2, "1" * 12)
    assert sorted(path.name for path in model.directory.iterdir()) == [
        "config.json",
        "manifest.json",
        "model.safetensors",
    ]
    invariants.check(says="the output of attempt 1 is missing or damaged")
