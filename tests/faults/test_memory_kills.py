"""The kernel kills the engine because memory ran out: recognised by the count of its control group."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from annotate.models import Project
from tests.faults.failpoints import Failpoints, meanwhile
from tests.faults.invariants import Invariants
from tests.faults.processes import kill_engine
from tests.training import machine
from training.models import Run
from training.rlhf import exits
from training.services.running import memory_kills, rounds

Status = Run.Status


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which the kernel counts for this process, on a machine that counts."""
    monkeypatch.setattr(memory_kills, "GROUPS", tmp_path / "cgroup")
    path = memory_kills.own_events()
    path.parent.mkdir(parents=True)
    count(path, 0)
    return path


def count(events: Path, kills: int) -> None:
    events.write_text(f"low 0\nhigh 0\nmax 9\noom {kills + 3}\noom_kill {kills}\noom_group_kill 0\n")


def kill_for_memory(points: Failpoints, run: Run, events: Path, steps: list[int]) -> Run:
    """Do what the kernel does, whenever the engine is at the next of these steps."""
    armed = {step: points.arm("toy-step", "pause", step) for step in steps}

    def kill_at(step: int, kills: int) -> None:
        points.wait_for_pause(armed[step])
        count(events, kills)
        kill_engine(run.directory)
        points.resume(armed[step])

    thread = meanwhile(lambda: [kill_at(step, kills) for kills, step in enumerate(steps, start=1)])
    machine.work_off()
    thread.join()
    run.refresh_from_db()
    return run


def test_the_next_attempt_has_half_the_micro_batch(
    project: Project, invariants: Invariants, points: Failpoints, events: Path
) -> None:
    run = rounds.open(project, opened_by=None).runs.get()
    kill_for_memory(points, run, events, steps=[5])
    assert (run.status, run.attempt) == (Status.SUCCEEDED, 2)
    (setback,) = json.loads((run.directory / "attempts/1/setbacks.json").read_text())
    assert (setback["kind"], setback["step"]) == ("out_of_memory", 4)
    assert "half as many tokens per batch (batch_tokens 4096)" in invariants.run_page(run)
    invariants.check(says="The engine was killed by SIGKILL: the machine ran out of memory.")


def test_a_second_time_fails_the_round_with_advice(
    project: Project, invariants: Invariants, points: Failpoints, events: Path
) -> None:
    run = rounds.open(project, opened_by=None).runs.get()
    kill_for_memory(points, run, events, steps=[5, 7])
    assert (run.status, run.exit_code, run.attempt) == (Status.FAILED, exits.InvalidInput.code, 2)
    invariants.check(says="even with half the batch_tokens: set batch_tokens below 4096")


def test_a_kill_that_the_kernel_does_not_count_is_any_kill(
    project: Project, invariants: Invariants, points: Failpoints, events: Path
) -> None:
    count(events, 7)  # of other days
    points.arm("toy-step", "kill", 5)
    run = rounds.open(project, opened_by=None).runs.get()
    machine.work_off()
    assert not list(run.directory.glob("attempts/*/setbacks.json"))
    invariants.check(says="The engine was killed by SIGKILL. ")


def test_where_nobody_counts_nothing_is_claimed(tmp_path: Path, events: Path) -> None:
    absent = memory_kills.Counter(tmp_path / "memory.events")
    count(tmp_path / "memory.events", 1)
    assert not absent.has_risen()  # nobody knows how many there were before
    present = memory_kills.Counter(events)
    events.unlink()
    assert not present.has_risen()


def test_the_count_is_that_of_the_process_s_own_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: Path
) -> None:
    groups = tmp_path / "groups"
    monkeypatch.setattr(memory_kills, "OWN_GROUP", groups)
    groups.write_text("4:memory:/old\n0::/system.slice/roundtable.service\n")
    assert memory_kills.own_events() == memory_kills.GROUPS / "system.slice/roundtable.service/memory.events"
    groups.write_text("0::/\n")  # in a container, which sees its own group as the root
    assert memory_kills.own_events() == memory_kills.GROUPS / "memory.events"
