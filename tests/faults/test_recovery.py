"""What the real engine meets on its way under a supervisor: damaged checkpoints, no memory, numbers that go wrong."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from annotate.models import Member, Project
from tests.faults.failpoints import Failpoints, meanwhile
from tests.faults.invariants import Invariants
from tests.faults.processes import kill_engine, wait_until
from tests.training import machine
from training.models import ModelVersion, Run
from training.rlhf import exits
from training.services.running import rounds

pytestmark = [pytest.mark.slow]
Status = Run.Status
STEPS = 4  # of the SFT: eight answers, four a step, read twice


@pytest.fixture
def invariants(teaching: Project, judge: Member) -> Invariants:
    machine.write_demonstrations(judge, 8)
    return Invariants(teaching)


def open_round(project: Project) -> Run:
    return rounds.open(project, opened_by=None).runs.get()


def recoveries(run: Run) -> list[dict[str, Any]]:
    """What the newest attempt knows of."""
    newest = max(run.directory.glob("attempts/*/setbacks.json"), default=None)
    return json.loads(newest.read_text()) if newest else []


def steps(run: Run) -> list[int]:
    rows = (run.directory / f"attempts/{run.fence}/metrics.jsonl").read_text().splitlines()
    return [json.loads(row)["step"] for row in rows]


def flip_a_byte(checkpoint: Path) -> None:
    path = checkpoint / "policy.safetensors"
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))


def lose_the_manifest(checkpoint: Path) -> None:
    (checkpoint / "manifest.json").unlink()


def become_a_pickle(checkpoint: Path) -> None:
    shutil.rmtree(checkpoint)
    checkpoint.mkdir()
    (checkpoint / "pytorch_model.bin").write_bytes(b"code that somebody wants to be run")


def bring_code(checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "theirs.Model"}}))


def damaged_while_killed(points: Failpoints, run: Run, step: int, damage: Callable[[Path], None]) -> None:
    """Kill the engine where it has just written the checkpoint of `step`, and damage that."""
    armed = points.arm("sealed-renamed", "pause", f"step-{step:06d}")
    thread = meanwhile(
        lambda: points.wait_for_pause(armed),
        lambda: damage(run.directory / f"attempts/1/checkpoints/step-{step:06d}"),
        lambda: kill_engine(run.directory),
        lambda: points.resume(armed),
    )
    machine.work_off()
    thread.join()
    run.refresh_from_db()


@pytest.mark.parametrize("damage", [flip_a_byte, lose_the_manifest, become_a_pickle, bring_code])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_used(
    invariants: Invariants, teaching: Project, points: Failpoints, damage: Callable[[Path], None]
) -> None:
    run = open_round(teaching)
    damaged_while_killed(points, run, 3, damage)
    assert (run.status, run.attempt) == (Status.SUCCEEDED, 2)
    assert steps(run) == list(range(STEPS + 1))
    said = "The checkpoint of step 3 was damaged and was set aside; the stage resumed from the checkpoint of step 2."
    assert [recovery["text"] for recovery in recoveries(run)] == [said]
    assert said in invariants.run_page(run)
    invariants.check(says="succeeded")


def test_where_no_checkpoint_is_whole_the_stage_starts_over_and_says_so(
    invariants: Invariants, teaching: Project, points: Failpoints
) -> None:
    run = open_round(teaching)
    damaged_while_killed(points, run, 1, flip_a_byte)
    assert (run.status, steps(run)) == (Status.SUCCEEDED, list(range(STEPS + 1)))
    assert "the stage started over, as there was no complete checkpoint." in invariants.run_page(run)
    invariants.check(says="succeeded")


def test_a_pickle_in_the_base_model_is_refused_in_words(invariants: Invariants, teaching: Project) -> None:
    run = open_round(teaching)
    base = ModelVersion.objects.get(kind=ModelVersion.Kind.BASE)
    become_a_pickle(base.directory)
    machine.work_off()
    run.refresh_from_db()
    assert (run.status, run.exit_code, run.attempt) == (Status.FAILED, exits.InvalidInput.code, 1)
    assert not (run.directory / "attempts/1/output").exists()


def test_memory_that_runs_out_once_halves_what_is_read_at_once(
    invariants: Invariants, teaching: Project, points: Failpoints
) -> None:
    run = open_round(teaching)
    points.arm("engine-alive", "out_of_memory", "after step 2")
    machine.work_off()
    run.refresh_from_db()
    assert (run.status, run.attempt, steps(run)) == (Status.SUCCEEDED, 1, list(range(STEPS + 1)))
    (recovery,) = recoveries(run)
    assert recovery["kind"] == "out_of_memory"
    assert (
        "went back to the checkpoint of step 1 and continued with half as many tokens per batch"
        in invariants.run_page(run)
    )
    invariants.check(says="succeeded")


def test_memory_that_runs_out_again_fails_the_round_with_advice(
    invariants: Invariants, teaching: Project, points: Failpoints
) -> None:
    run = open_round(teaching)
    for _ in range(2):
        points.arm("engine-alive", "out_of_memory", "after step 2")
    machine.work_off()
    run.refresh_from_db()
    assert (run.status, run.exit_code, run.attempt) == (Status.FAILED, exits.InvalidInput.code, 1)
    invariants.check(says="out of memory even with half the batch_tokens: set batch_tokens below")


def test_numbers_that_go_wrong_twice_fail_the_round_with_advice_and_publish_nothing(
    invariants: Invariants, teaching: Project
) -> None:
    training = teaching.training_settings
    training.overrides["sft"] |= {"learning_rate": 1e38, "epochs": 8}
    training.save()
    run = open_round(teaching)
    machine.work_off()
    run.refresh_from_db()
    assert (run.status, run.exit_code, run.attempt) == (Status.FAILED, exits.Diverged.code, 1)
    assert [recovery["kind"] for recovery in recoveries(run)] == ["not_finite"]
    assert not ModelVersion.objects.filter(run=run).exists()
    invariants.check(says="even at half the learning rate: try again with a lower learning_rate (it was")


def test_a_policy_that_runs_away_from_its_reference_is_stopped_on_the_way(teaching: Project, judge: Member) -> None:
    machine.rank_new_slates(judge, 4)
    invariants = Invariants(teaching)
    training = teaching.training_settings
    training.overrides["ppo"] |= {"kl_limit": 0.1, "learning_rate": 1e-2, "iterations": 20}
    training.save()
    round = rounds.open(teaching, opened_by=None)
    machine.work_off()
    run = round.runs.get(stage="ppo")
    rows = (run.directory / "attempts/1/metrics.jsonl").read_text().splitlines()
    kls = [json.loads(row)["metrics"].get("rollout/kl", 0.0) for row in rows]
    assert kls[-1] > 0.1 >= max(kls[:-1])
    assert run.step < run.total == 20
    invariants.check(says="succeeded")


def test_an_engine_that_hangs_writes_down_where_before_it_is_killed(
    invariants: Invariants, teaching: Project, points: Failpoints, settings: Settings
) -> None:
    patient = settings.RUN_STALL_S
    armed = points.arm("engine-alive", "pause", "after step 2")
    run = open_round(teaching)

    def lose_patience() -> None:
        """An engine may take long to start, so only the one that hangs is watched closely."""
        points.wait_for_pause(armed)
        settings.RUN_STALL_S = 1.0
        wait_until(lambda: Run.objects.get(pk=run.pk).attempt == 2, within=60)
        settings.RUN_STALL_S = patient

    thread = meanwhile(lose_patience)
    machine.work_off()
    thread.join()
    run.refresh_from_db()
    assert (run.status, run.attempt, steps(run)) == (Status.SUCCEEDED, 2, list(range(STEPS + 1)))
    assert "in reach\n" in (run.directory / "attempts/1/engine.log").read_text()
    invariants.check(says="The engine made no progress for")
