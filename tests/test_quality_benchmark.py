"""The quality benchmark runs on our side, and its figures are what their names promise. No peer is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.ppo_quality import EPOCHS, ppo_config
from benchmarks.quality.comparison import compared, crossing, verdicts
from benchmarks.quality.judging import Point
from benchmarks.quality.trajectories import OURS, Trajectory

ROOT = Path(__file__).resolve().parent.parent


def point(iteration: int, kl: float, *gold: float) -> Point:
    return Point(iteration=iteration, kl=kl, gold=list(gold), wins=0.5 + kl / 10, stop_rate=1.0)


def run(side: str, seed: int, *gold: float, beta: float = 0.2) -> Trajectory:
    """From 0 to 2 nats, with this gold of each prompt at the end and none at the beginning."""
    return Trajectory(side, seed, beta, [point(0, 0.0, *(0.0 for _ in gold)), point(4, 2.0, *gold)])


def test_both_sides_go_over_a_rollout_once_whatever_the_preset_has() -> None:
    assert ppo_config(20, 0.02, smoke=False).epochs == EPOCHS["trl-1"] == 1


def test_gold_at_a_kl_lies_between_the_policies_before_and_after_its_first_crossing() -> None:
    points = [point(0, 0.0, 0.0, 0.0), point(4, 0.5, 1.0, 2.0), point(8, 2.5, 2.0, 6.0), point(12, 0.9, 9.0, 9.0)]
    at = crossing([*points, point(16, 3.0, 9.0, 9.0)], 1.0)
    assert at is not None
    assert at.gold == pytest.approx([1.25, 3.0])
    assert (at.wins, at.iteration) == pytest.approx((0.6, 5.0))
    assert crossing(points, 4.0) is None


def test_errors_of_seeds_and_of_prompts_are_those_of_the_paired_differences() -> None:
    runs = [run(OURS, 1, 2.0, 4.0), run("trl-1", 1, 2.0, 2.0), run(OURS, 2, 6.0, 4.0), run("trl-1", 2, 2.0, 2.0)]
    line = compared(runs, 0.2, 1.0, "trl-1")
    assert line["by_seed"] == pytest.approx([0.5, 1.5])  # halfway to 2 nats
    assert line["difference"] == pytest.approx(1.0)
    assert line["error_of_seeds"] == pytest.approx(0.5)
    assert line["error_of_prompts"] == pytest.approx(0.0)  # the mean of the seeds is 1 at both prompts


@pytest.mark.parametrize(
    ("first", "second", "not_worse"),
    [
        ((0.7, 1.1, 0.9), (0.9, 1.1, 1.0), True),  # lower by one error of seeds
        ((0.2, 1.0, 0.9), (0.3, 1.0, 0.9), False),  # by 17 errors of seeds, and little more than one of prompts
        ((1.2, 1.1, 1.3), (1.1, 1.2, 1.2), True),
    ],
)
def test_ours_is_worse_once_it_is_lower_by_more_than_two_of_the_smaller_standard_errors(
    first: tuple[float, ...], second: tuple[float, ...], not_worse: bool
) -> None:
    theirs = [run("trl-1", seed, 1.0, 1.0, 1.0) for seed in (1, 2)]
    mine = [run(OURS, 1, *first), run(OURS, 2, *second)]
    assert compared([*mine, *theirs], 0.2, 1.0, "trl-1")["not_worse"] is not_worse


def test_the_better_peer_decides_at_the_strongest_penalty_with_which_all_seeds_get_there() -> None:
    lines = [
        {"nats": 1.0, "beta": 0.2, "peer": "trl-1", "by_seed": [0.1, 0.1], "theirs_gold": 1.0},
        {"nats": 1.0, "beta": 0.2, "peer": "trl-4", "by_seed": [0.1, 0.1], "theirs_gold": 2.0},
        {"nats": 1.0, "beta": 0.1, "peer": "trl-4", "by_seed": [0.1, 0.1], "theirs_gold": 3.0},
        {"nats": 2.0, "beta": 0.2, "peer": "trl-4", "by_seed": [0.1], "theirs_gold": 4.0},
    ]
    assert verdicts(lines, seeds=2) == [lines[1], {"nats": 2.0, "not_worse": None}]


def test_the_command_judges_the_policies_of_our_side_without_a_peer() -> None:
    command = [sys.executable, ROOT / "benchmarks" / "ppo_quality.py", "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    line = json.loads(done.stdout)
    first, last = line["points"]
    assert (line["side"], first["iteration"], first["kl"]) == (OURS, 0, pytest.approx(0.0, abs=1e-4))
    assert last["iteration"] == 4 and last["kl"] > 0.01
