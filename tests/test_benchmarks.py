"""The benchmarks can run, and their figures are what their names promise.

No peer and no GPU is needed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.engine import summary
from benchmarks.gpu import Bench, Part
from benchmarks.speed import work
from benchmarks.speed.ours import STEPS, Models, measure
from benchmarks.speed.profiling import OPERATORS, Clock, profile
from benchmarks.steadiness import Look, steadiness
from training.rlhf import seeding
from training.rlhf.networks.policy import load_policy
from training.rlhf.stages import rollouts, sampling

ROOT = Path(__file__).resolve().parent.parent
SMALLEST = "0.5M"


@pytest.fixture(autouse=True)
def generate(monkeypatch: pytest.MonkeyPatch) -> None:
    """PPO's step of the benchmark puts a clock around this name; in a process of its own that need not be undone."""
    monkeypatch.setattr(rollouts, "generate", rollouts.generate)


def made(folder: Path, name: str) -> dict[str, object]:
    work.write(folder, name, SMALLEST, smoke=True)
    job: dict[str, object] = json.loads((folder / "job.json").read_text())
    return job


@pytest.mark.parametrize("name", [name for name in work.WORKS if name not in ("generation4", "reward9-long")])
def test_every_work_has_a_rate_and_a_peak_of_memory(name: str, tmp_path: Path) -> None:
    job = made(tmp_path, name)
    measured = measure(job, STEPS[str(job["stage"])](job, Models(tmp_path), Clock()))
    assert min(measured["rate"], measured["cpu_rate"], measured["peak_mib"]) > 0


def test_the_shares_of_a_profile_add_up_and_each_stage_of_ppo_has_one(tmp_path: Path) -> None:
    job, clock = made(tmp_path, "ppo"), Clock()
    profiled = profile(job, STEPS["ppo"](job, Models(tmp_path), clock), clock)
    shares = [profiled[name] for name in ("generate", "score", "update", "wait")]
    assert sum(shares) == pytest.approx(1) and min(shares) > 0
    assert profiled["gflop_per_s"] > 0
    assert profiled["products"] > 0.1
    assert 0.5 < sum(profiled[name] for name in OPERATORS) <= 1


@pytest.mark.parametrize(("name", "mean"), [("generation", 48.0), ("generation-half", 24.0)])
def test_answers_are_as_long_as_the_work_promises(name: str, mean: float, tmp_path: Path) -> None:
    job = made(tmp_path, name)
    models = Models(tmp_path)
    prompts = job["rows"] * 4  # type: ignore[operator]
    generators = [seeding.generator(0, "test", sample=number) for number in range(len(prompts))]
    policy = load_policy(models.folder, models.chat, "fp32")
    answers = sampling.generate(policy, models.chat, prompts, generators, 48, 8192, lambda: None)
    lengths = torch.tensor([float(len(answer.response)) for answer in answers])
    assert lengths.mean().item() == pytest.approx(mean, abs=4 if mean < 48 else 0)


def test_a_ratio_is_the_median_of_the_repeats_and_its_spread_their_range() -> None:
    ours = [{"rate": rate, "cpu_rate": 2 * rate, "peak_mib": 300.0} for rate in (20.0, 30.0, 80.0)]
    theirs = [{"rate": 10.0, "cpu_rate": 10.0, "peak_mib": 900.0}] * 3
    line = summary(ours, theirs)
    assert (line["ours"], line["peer"], line["ratio"], line["spread"]) == (30, 10, 3, [2, 8])
    assert (line["cpu_ratio"], line["ours_peak_mib"], line["peer_peak_mib"]) == (6, 300, 900)


def test_the_command_prints_a_line_for_each_work_without_a_peer() -> None:
    command = [sys.executable, ROOT / "benchmarks" / "engine.py", "--smoke", "--works", "sft", "--params", SMALLEST]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    line = json.loads(done.stdout)
    assert (line["work"], line["params"], line["unit"], line["peer"]) == ("sft", SMALLEST, "tokens/s", None)
    assert line["ours"] > 0


def smoke(script: str, *options: str) -> list[dict[str, Any]]:
    """The lines that a benchmark prints, run with tiny sizes."""
    command = [sys.executable, ROOT / "benchmarks" / script, "--smoke", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_how_far_ppo_should_go_is_measured_by_both_reward_models_and_gold() -> None:
    (line,) = smoke("overoptimisation.py")
    assert [point["iteration"] for point in line["points"]] == [0, 1, 2]
    assert all(point["scores"].keys() == {"climbed", "watcher", "gold"} for point in line["points"])


def test_a_reward_model_is_measured_by_what_it_picks() -> None:
    (line,) = smoke("best_of_n.py")
    assert line["best_of"].keys() == {"2", "4"}
    for picks in (line["best_of"], line["heads"]["best_of"]):
        assert all(0 <= picks[n]["wins"] <= 1 for n in picks)
    assert line["heads"] != {"agreement": line["agreement"], "best_of": line["best_of"]}
    assert 0 <= line["heldout/reward_match"] <= 1


def test_a_stage_that_trains_says_how_its_steps_and_its_memory_go_on() -> None:
    (line,) = smoke("steadiness.py")
    assert (line["stage"], len(line["step_ms"]), len(line["memory_mib"])) == ("sft", 10, 10)
    assert line["steps"] >= 20 and min(line["step_ms"]) > 0 and max(line["memory_mib"]) > 100
    assert line["start_s"] > 0


def test_a_tenth_of_a_stage_has_the_median_of_its_steps_and_the_peak_of_its_memory() -> None:
    times = [100.0 + step for step in range(20)] + [130.0]  # the last of twenty steps is slow, but one of two
    found = steadiness(90.0, times, [Look(101.0, 50.0), Look(101.5, 70.0), Look(125.0, 90.0)])
    assert (found["steps"], found["start_s"]) == (20, 10.0)
    assert found["step_ms"] == [1000.0] * 9 + [6000.0]
    assert found["memory_mib"] == [70, *[0] * 8, 90]


def test_what_becomes_of_ppo_with_a_reward_that_cheats_is_measured_by_the_watcher_and_gold() -> None:
    (line,) = smoke("planted_cheating.py", "--people", "length")
    assert (line["person"], line["began"], list(line["curve"])) == ("length", True, ["0", "1", "2"])
    assert 0 <= min(line["wins"], line["watcher_wins"]) <= max(line["wins"], line["watcher_wins"]) <= 1


def test_what_a_judge_of_other_people_is_worth_is_measured_with_the_rankings_that_it_leaves() -> None:
    (line,) = smoke("judge_of_other_people.py", "--ways", "other people")
    assert (line["way"], line["rankings"]) == ("other people", 8)  # of twelve: those by four of the six people
    assert 0 <= min(line["wins"], line["watcher_wins"]) <= max(line["wins"], line["watcher_wins"]) <= 1


@pytest.mark.slow
def test_all_that_is_measured_on_a_gpu_runs_on_a_cpu_with_tiny_shapes() -> None:
    command = [sys.executable, ROOT / "benchmarks" / "gpu.py", "--small", "--seconds", "280"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=290)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line for line in lines if line.keys() & {"failed", "skipped", "stopped"}] == []
    assert done.returncode == 0, done.stderr
    measured = {line["measurement"]: line for line in lines if "measurement" in line}
    stages = {"sft", "reward", "ppo", "sampling", "evaluation"}
    assert stages | {"generation", "decoding, as it is", "decoding, compiled"} <= measured.keys()
    assert min(measured[stage]["rate"] for stage in stages) > 0
    assert measured["sft"]["share_of_matrix_peak"] > 0
    assert measured["ppo"]["largest_distance_of_ratio_from_1"] == 0
    assert measured["ppo"]["sampler_gap"] < 1e-5
    killed, short = measured["kill and resume"], measured["memory, too little"]
    assert (killed["killed_by_signal"], killed["resumed_differs_in"]) == (9, [])
    assert short["exit_status"] == 0
    assert "half as many tokens per batch (batch_tokens 64)" in short["recorded"][0]


def test_a_part_for_which_no_time_is_left_is_skipped_or_stopped_and_a_line_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path, 0.5, small=True)
    assert not bench.run(Part("matrices", needs_s=20))
    assert not bench.run(Part("matrices", needs_s=0))
    skipped, stopped = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert "it needs 20" in skipped["skipped"]
    assert stopped["stopped"] == "no time was left"
    assert stopped["seconds"] < 10
