"""However one process of a run ends, the others end with it, one of them says why, and the run goes on from there."""

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.rlhf.conftest import MakeRun
from tests.rlhf.ranks.conftest import MakeSft
from tests.rlhf.ranks.launches import engine, join, launch, start
from tests.rlhf.ranks.test_equality import weights_of
from tests.rlhf.reward_runs import ranked_slate
from tests.rlhf.run.test_resume import finished, hand_over, metrics, weights
from training.rlhf import endings
from training.rlhf.failpoints import VARIABLE
from training.rlhf.run import checkpoint, rank_notes


def arm(folder: Path, action: str) -> dict[str, str]:
    """An environment in which one process does `action`."""
    folder.mkdir()
    (folder / "engine-alive.1").write_text(action)
    return {VARIABLE: str(folder)}


def kill_one(run: Path, tmp_path: Path) -> None:
    codes = launch(run, "sft", 2, **arm(tmp_path / "armed", "kill after step 4"))
    assert sorted(codes, key=str) == [-signal.SIGKILL, 1]


def setbacks(run: Path, attempt: int) -> list[str]:
    return [entry["kind"] for entry in json.loads((run / f"attempts/{attempt}/setbacks.json").read_text())]


def test_a_run_whose_process_was_killed_resumes_to_the_same_bytes(make_sft: MakeSft, tmp_path: Path) -> None:
    straight, killed = make_sft("straight"), make_sft("killed")
    assert launch(straight, "sft", 2) == [0, 0]
    kill_one(killed, tmp_path)
    assert endings.read(killed / "attempts/1") == {}  # the survivor does not know why
    hand_over(killed)
    assert launch(killed, "sft", 2) == [0, 0]
    assert finished(killed).name == "2"
    assert weights(killed) == weights(straight)
    assert metrics(killed) == metrics(straight)


def test_a_checkpoint_of_two_processes_is_gone_on_from_by_one_and_by_four(make_sft: MakeSft, tmp_path: Path) -> None:
    straight, killed = make_sft("straight", processes=1), make_sft("killed")
    assert launch(straight, "sft", 1) == [0]
    kill_one(killed, tmp_path)
    hand_over(killed)
    for processes in (1, 4):
        run = tmp_path / f"by-{processes}"
        shutil.copytree(killed, run)
        config = json.loads((run / "config.json").read_text())
        (run / "config.json").write_text(json.dumps({**config, "processes": processes}))
        assert launch(run, "sft", processes) == [0] * processes
        assert finished(run).name == "2"
        torch.testing.assert_close(weights_of(finished(run)), weights_of(finished(straight)), atol=1e-5, rtol=0)


def test_a_request_to_stop_that_reaches_one_process_stops_all_after_the_same_step(make_sft: MakeSft) -> None:
    run = make_sft(epochs=300)
    processes = start(engine, run, "sft", processes=2, log=run / "log")
    while not list(run.glob("attempts/1/checkpoints/step-*3")):
        assert all(process.is_alive() for process in processes)
        time.sleep(0.01)
    assert processes[1].pid
    os.kill(processes[1].pid, signal.SIGTERM)
    assert 75 in join(processes)
    ending = endings.read(run / "attempts/1")
    assert (ending["kind"], ending["exit_code"]) == ("interrupted", 75)
    found = checkpoint.newest([run / "attempts/1/checkpoints"]).newest
    assert found and found.step == json.loads((run / "attempts/1/metrics.jsonl").read_text().splitlines()[-1])["step"]


def test_memory_that_runs_out_in_one_process_halves_the_batch_of_all_once(make_sft: MakeSft, tmp_path: Path) -> None:
    run = make_sft()
    assert 75 in launch(run, "sft", 2, **arm(tmp_path / "armed", "out_of_memory after step 4"))
    assert endings.read(run / "attempts/1")["exit_code"] == 75
    hand_over(run)
    assert launch(run, "sft", 2) == [0, 0]
    assert setbacks(run, 1) == setbacks(run, 2) == ["out_of_memory"]
    assert json.loads((run / "attempts/2/origin.json").read_text())["config"]["batch_tokens"] == 50


def test_a_divergence_of_all_is_recovered_from_once_and_then_ends_the_run(
    make_run: MakeRun, models: dict[str, Path]
) -> None:
    options: dict[str, Any] = {"learning_rate": 1e38, "epochs": 9, "batch_size": 2, "max_response": 32}
    data = {"rankings": [ranked_slate(n) for n in range(4)]}
    run = make_run("reward", parents={"policy": models["llama"]}, data=data, processes=2, **options)
    assert 75 in launch(run, "reward", 2)
    hand_over(run)
    assert 79 in launch(run, "reward", 2)
    assert setbacks(run, 2) == ["not_finite"]
    ending = endings.read(run / "attempts/2")
    assert (ending["kind"], ending["exit_code"]) == ("not_finite", 79)


def test_the_process_that_hangs_is_known_from_the_others_that_wait(make_sft: MakeSft, tmp_path: Path) -> None:
    run = make_sft()
    armed = arm(tmp_path / "armed", "pause after step 4")
    processes = start(engine, run, "sft", processes=2, log=run / "log", **armed)
    while not list((tmp_path / "armed").glob("*.paused")):
        assert all(process.is_alive() for process in processes)
        time.sleep(0.01)
    time.sleep(0.5)  # for the other one to finish its part of the step
    late = rank_notes.last(run / "attempts/1")
    assert late
    pids = [process.pid for process in processes]
    assert late.pid == pids[late.rank]
    for path in (tmp_path / "armed").glob("*.paused"):
        path.unlink()
    assert join(processes) == [0, 0]


@pytest.mark.parametrize(("wanted", "started"), [(2, 1), (1, 2)])
def test_another_number_of_processes_than_the_config_wants_is_refused(
    make_sft: MakeSft, wanted: int, started: int
) -> None:
    run = make_sft(processes=wanted)
    assert 77 in launch(run, "sft", started)
    assert endings.read(run / "attempts/1")["field"] == "processes"
