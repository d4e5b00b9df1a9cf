"""The gauge: what the watcher says of a policy in training, when that stops PPO, and what is published then."""

import math
import random
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.rlhf import reward_runs
from tests.rlhf.conftest import MakeRun
from tests.rlhf.run.test_resume import HOW_OFTEN, check_that_kills_change_nothing
from tests.rlhf.stages.test_ppo_stage import PROMPTS, lines_of, published
from training.rlhf.__main__ import main
from training.rlhf.config import Parent, PPOConfig
from training.rlhf.data.records import Prompt
from training.rlhf.stages import gauge
from training.rlhf.stages.gauge import Measured, Watch, measured_prompts, picked_wins

SIZES = {"rollout_size": 4, "minibatch_size": 4, "max_response": 8, "gauge_every": 2, "gauge_prompts": 8}
SIZES |= {"gauge_patience": 2, "trial_answers": 0}
CHEATING = {"learning_rate": 0.05, "kl_limit": 1e9, "iterations": 12}
GAUGED = {f"gauge/{name}" for name in ("watcher", "reward", "kl", "length", "stop_rate", "best_step")}


@pytest.fixture
def parents(models: dict[str, Path], reward_models: dict[str, Path], watcher: Path) -> dict[str, Path]:
    llama = models["llama"]
    return {"policy": llama, "reference": llama, "reward": reward_models["llama"], "watcher": watcher}


def planted(trend: list[float], draw: random.Random) -> Watch:
    """The rule, after measurements of 128 prompts whose mean score follows a trend, with noise of one unit a prompt."""
    watch = Watch(patience=4)
    prompts = [draw.gauss(0, math.sqrt(0.5)) for _ in range(128)]
    for step, mean in enumerate(trend):
        watch.see(Measured(step, [mean + prompt + draw.gauss(0, math.sqrt(0.5)) for prompt in prompts]))
        if watch.has_levelled_off:
            break
    return watch


def stopped(trend: list[float], runs: int = 100) -> float:
    """The share of runs with this trend that are stopped."""
    draw = random.Random(0)
    return fmean(planted(trend, draw).has_levelled_off for _ in range(runs))


def test_a_judge_who_turns_down_stops_the_run_and_the_best_is_near_the_turn() -> None:
    turning = [min(step, 10) * 0.09 - max(0, step - 10) * 0.04 for step in range(24)]
    assert stopped(turning) >= 0.95
    best = [planted(turning, random.Random(seed)).best for seed in range(20)]
    assert 8 <= fmean(one.step for one in best if one) <= 12


def test_a_judge_who_sees_nothing_get_better_stops_the_run_soon() -> None:
    assert stopped([0.0] * 12) >= 0.9


def test_a_policy_that_never_became_certainly_better_is_published_as_it_began() -> None:
    level = [planted([0.0] * 12, random.Random(seed)) for seed in range(40)]
    began = [watch.best.step == 0 for watch in level if watch.best]
    assert fmean(began) >= 0.8  # chance makes some measurement look certain
    late = [planted([0.0, 0.0, *[0.6] * 6], random.Random(seed)).best for seed in range(20)]
    assert min(one.step for one in late if one) >= 2


def test_on_a_single_prompt_no_improvement_is_certain_and_the_policy_as_it_began_is_published() -> None:
    watch = Watch(patience=4)
    for step in range(5):
        watch.see(Measured(step, [0.5 + step]))
    assert watch.has_levelled_off
    assert watch.best
    assert watch.best.step == 0


@pytest.mark.parametrize("slope", [0.13, 0.2])
def test_a_judge_who_goes_up_by_more_than_a_standard_error_at_a_time_stops_hardly_any_run(slope: float) -> None:
    assert stopped([slope * step for step in range(24)]) <= 0.05


def test_one_bad_measurement_stops_nothing() -> None:
    rising = [0.13 * step for step in range(24)]
    assert stopped([*rising[:8], -1.0, *rising[9:]]) <= 0.05


def test_the_policy_is_measured_by_both_models_before_training_and_every_few_iterations(
    make_run: MakeRun, parents: dict[str, Path]
) -> None:
    run = make_run("ppo", parents=parents, data={"prompts": PROMPTS}, learning_rate=1e-3, iterations=5, **SIZES)
    assert main(["ppo", str(run)]) == 0
    measured = {line["step"]: line["metrics"] for line in lines_of(run) if "gauge/watcher" in line["metrics"]}
    assert list(measured) == [0, 2, 4, 5]
    assert all(metrics.keys() >= GAUGED for metrics in measured.values())
    assert measured[0]["gauge/kl"] == 0 != measured[5]["gauge/kl"]
    assert measured[0]["gauge/watcher"] != measured[0]["gauge/reward"]


def test_the_watcher_is_nobodys_reward(make_run: MakeRun, parents: dict[str, Path]) -> None:
    fields: dict[str, Any] = {"data": {"prompts": PROMPTS}, "learning_rate": 1e-3, "iterations": 3, **SIZES}
    watched = make_run("ppo", name="watched", parents=parents, early_stopping="off", **fields)
    without = {role: path for role, path in parents.items() if role != "watcher"}
    alone = make_run("ppo", name="alone", parents=without, **fields)
    assert main(["ppo", str(watched)]) == main(["ppo", str(alone)]) == 0
    for ours, theirs in zip(lines_of(watched), lines_of(alone), strict=True):
        assert {name: value for name, value in ours["metrics"].items() if name not in GAUGED} == theirs["metrics"]
    assert all(torch.equal(weight, published(alone)[name]) for name, weight in published(watched).items())


def test_no_watcher_measures_nothing_and_neither_does_one_that_is_never_asked(
    make_run: MakeRun, parents: dict[str, Path]
) -> None:
    run = make_run("ppo", parents=parents, data={"prompts": PROMPTS}, iterations=1, **SIZES | {"gauge_every": 0})
    assert main(["ppo", str(run)]) == 0
    assert not any(GAUGED & line["metrics"].keys() for line in lines_of(run))


def best_of(run: Path) -> dict[str, Any]:
    """The first measurement with the highest score of the watcher."""
    measured = [line for line in lines_of(run) if "gauge/watcher" in line["metrics"]]
    return max(measured, key=lambda line: line["metrics"]["gauge/watcher"])


def test_ppo_stops_where_the_judge_sees_no_more_improvement_and_publishes_what_it_liked_best(
    make_run: MakeRun, parents: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gauge, "CERTAIN", 0.0)  # eight answers of a policy that has learnt nothing are mostly noise
    fields: dict[str, Any] = {"parents": parents, "data": {"prompts": PROMPTS}, "checkpoint_seconds": 0}
    run = make_run("ppo", **fields, **SIZES, **CHEATING)
    assert main(["ppo", str(run)]) == 0
    last = lines_of(run)[-1]
    best = best_of(run)["step"]
    assert (last["step"], last["metrics"]["gauge/best_step"]) == (best + 4, best)
    assert last["step"] < CHEATING["iterations"]
    start = load_file(parents["policy"] / "model.safetensors")
    kept = load_file(run / f"attempts/1/checkpoints/step-{last['step']:06d}/best.safetensors")
    kept = {name.removeprefix("network."): tensor for name, tensor in kept.items()}
    assert all(torch.equal(tensor, published(run)[name]) for name, tensor in kept.items())
    assert all(torch.equal(tensor, start[name]) for name, tensor in kept.items()) == (best == 0)


def test_a_person_may_have_it_go_on_whatever_the_judge_says(
    make_run: MakeRun, parents: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gauge, "CERTAIN", 0.0)
    fields: dict[str, Any] = {"parents": parents, "data": {"prompts": PROMPTS}, "early_stopping": "off"}
    run = make_run("ppo", **fields, **SIZES, **CHEATING)
    assert main(["ppo", str(run)]) == 0
    assert lines_of(run)[-1]["step"] == CHEATING["iterations"]


@HOW_OFTEN
def test_a_watched_run_that_is_killed_anywhere_ends_in_the_same_weights(
    make_run: MakeRun, parents: dict[str, Path], monkeypatch: pytest.MonkeyPatch, kills: int
) -> None:
    monkeypatch.setattr(gauge, "CERTAIN", 0.0)  # or what it starts from might be published
    fields: dict[str, Any] = {"data": {"prompts": PROMPTS}, "checkpoint_seconds": 0, "iterations": 3}
    run = make_run("ppo", parents=parents, learning_rate=0.05, kl_limit=1e9, **fields, **SIZES)
    check_that_kills_change_nothing(run, "ppo", kills)


@pytest.fixture(scope="module")
def opposed(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Reward models of people of opposite tastes, whose rankings they know by heart."""
    root, llama = tmp_path_factory.mktemp("opposed"), models["llama"]
    tastes: dict[str, list[int | None]] = {"usual": [1, 2, 3], "reversed": [3, 2, 1]}
    return {name: reward_runs.thorough(root / name, llama, places) for name, places in tastes.items()}


def test_ppo_does_not_begin_where_the_judge_dislikes_what_the_reward_picks_unless_a_person_wants_it(
    make_run: MakeRun, models: dict[str, Path], opposed: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    llama = models["llama"]
    parents = {"policy": llama, "reference": llama, "reward": opposed["usual"], "watcher": opposed["reversed"]}
    fields: dict[str, Any] = {"parents": parents, "data": {"prompts": PROMPTS}, "iterations": 1}
    refused = make_run("ppo", name="refused", **fields, **SIZES | {"trial_answers": 8})
    assert main(["ppo", str(refused)]) == 77
    assert "does not prefer what the reward model picks out of 8 answers" in capsys.readouterr().err
    wanted = make_run("ppo", name="wanted", **fields, **SIZES)
    assert main(["ppo", str(wanted)]) == 0


def test_a_single_prompt_is_no_trial_and_ppo_begins_and_changes_nothing(
    make_run: MakeRun, models: dict[str, Path], opposed: dict[str, Path]
) -> None:
    llama = models["llama"]
    parents = {"policy": llama, "reference": llama, "reward": opposed["usual"], "watcher": opposed["reversed"]}
    fields: dict[str, Any] = {"data": {"prompts": PROMPTS[:1]}, "learning_rate": 0.05, "kl_limit": 1e9, "iterations": 3}
    run = make_run("ppo", parents=parents, **fields, **SIZES | {"trial_answers": 8})
    assert main(["ppo", str(run)]) == 0
    first, *_, last = lines_of(run)
    assert "gauge/trial_win_rate" not in first["metrics"]
    assert (last["step"], last["metrics"]["gauge/best_step"]) == (3, 0)
    start = load_file(llama / "model.safetensors")
    assert all(torch.equal(weight, start[name]) for name, weight in published(run).items())


def test_ppo_begins_where_the_judge_agrees_and_says_how_much(
    make_run: MakeRun, models: dict[str, Path], opposed: dict[str, Path]
) -> None:
    llama, usual = models["llama"], opposed["usual"]
    parents = {"policy": llama, "reference": llama, "reward": usual, "watcher": usual}
    run = make_run("ppo", parents=parents, data={"prompts": PROMPTS}, iterations=1, **SIZES | {"trial_answers": 8})
    assert main(["ppo", str(run)]) == 0
    assert lines_of(run)[0]["metrics"]["gauge/trial_win_rate"] > 0.9


def test_of_answers_that_the_judge_cannot_tell_apart_the_picked_one_wins_half() -> None:
    assert picked_wins([0.1, 0.9, 0.5], [2.0, 2.0, 2.0]) == 0.5
    assert picked_wins([0.1, 0.9, 0.5], [1.0, 2.0, 3.0]) == 0.5
    assert picked_wins([0.1, 0.9, 0.5], [1.0, 3.0, 2.0]) == 1.0


def test_the_answers_of_trial_and_measurements_can_be_counted_before() -> None:
    roles = {role: Parent(path="", manifest_sha256="") for role in PPOConfig.required_parents}
    cfg = PPOConfig(seed=3, parents=roles, iterations=12, gauge_every=5, gauge_prompts=100, trial_answers=16)
    assert cfg.count_gauge_answers(prompts=1000) == 4 * 100 + 64 * 16  # after 0, 5, 10 and 12 iterations
    assert cfg.count_gauge_answers(prompts=10) == 4 * 100 + 10 * 16
    assert replace(cfg, trial_answers=1).count_gauge_answers(prompts=1000) == 4 * 100
    assert cfg.count_gauge_answers(prompts=1) == 4 * 100


def test_the_same_prompts_are_answered_every_time_and_few_of_them_several_times() -> None:
    roles = {role: Parent(path="", manifest_sha256="") for role in PPOConfig.required_parents}
    cfg = PPOConfig(seed=3, parents=roles, gauge_prompts=8)
    many, few = ([Prompt(id=str(n), messages=[]) for n in range(count)] for count in (30, 3))
    chosen = measured_prompts(many, cfg)
    assert chosen == measured_prompts(many, cfg)
    assert len({prompt.id for prompt, _number in chosen}) == len(chosen) == 8
    assert sorted((prompt.id, number) for prompt, number in measured_prompts(few, cfg))[:3] == [
        ("0", 0),
        ("0", 1),
        ("0", 2),
    ]
