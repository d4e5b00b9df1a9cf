"""What is counted when a reward model or a policy is measured."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.rlhf import reward_runs
from tests.rlhf.conftest import MakeRun
from tests.rlhf.forward_hooks import forward_hook
from tests.rlhf.reward_runs import question, ranked_slate
from training.rlhf.__main__ import main
from training.rlhf.config import EvaluationConfig, Parent
from training.rlhf.data.chat import Chat
from training.rlhf.data.records import read_completions
from training.rlhf.stages.evaluation import count_ties, pair_results, win, win_metrics
from training.rlhf.stages.scoring import Answer


def test_a_result_knows_how_many_ranks_lie_between_and_whose_round_it_was() -> None:
    found = list(pair_results([1, 4, 2, None, 2], rewards=[3.0, 5.0, 1.0, 9.0, 2.0], round_number=7))
    assert {(one.agrees, one.gap) for one in found} == {(True, 1), (False, 2), (False, 1)}
    assert len(found) == 5
    assert {one.round for one in found} == {7}


def test_equal_rewards_do_not_agree_with_a_preference() -> None:
    (result,) = pair_results([1, 2], rewards=[1.0, 1.0], round_number=None)
    assert not result.agrees


def test_ties_are_counted_pair_by_pair_and_what_could_not_be_judged_is_none() -> None:
    assert count_ties([1, 1, 1, 2, None]) == 3
    assert count_ties([1, 2, 3]) == 0


def test_every_answer_of_the_policy_meets_every_answer_of_the_reference() -> None:
    metrics = win_metrics("proxy", [1.0, 3.0, 0.0, 0.0], [2.0, 0.0, 0.0, 5.0], draws=2)
    # prompt 1: 1<2, 1>0, 3>2, 3>0; prompt 2: 0=0 and 0<5, twice
    assert metrics["proxy/win_rate"] == pytest.approx((3 + 2 * 0.5) / 8)
    assert (metrics["proxy/reward"], metrics["proxy/reference_reward"]) == (1.0, 1.75)


@pytest.fixture
def make_evaluation(make_run: MakeRun, model_dir: Path, reward_models: dict[str, Path]) -> Any:
    """An evaluation with so many held-out slates, and more whose prompt leaves no room for an answer."""

    def make(fitting: int, too_long: int) -> Path:
        long = {"messages": [{"role": "user", "content": "why " * 200}]}
        slates = [{**ranked_slate(n), **(long if n >= fitting else {})} for n in range(fitting + too_long)]
        data = {"heldout_prompts": [{"id": 1, "messages": question(1)}], "heldout_rankings": slates}
        parents = {"policy": model_dir, "reference": model_dir, "reward": reward_models[model_dir.name]}
        return make_run("evaluation", parents=parents, data=data, draws=1, max_response=8)

    return make


def logged(run: Path) -> tuple[dict[str, float], dict[str, float]]:
    """What was said of the records, and what was measured."""
    lines = [json.loads(line) for line in (run / "attempts/1/metrics.jsonl").read_text().splitlines()]
    return lines[0]["metrics"], lines[-1]["metrics"]


def test_held_out_slates_that_are_too_long_are_left_out_and_counted(make_evaluation: Any) -> None:
    run = make_evaluation(fitting=20, too_long=1)
    assert main(["evaluation", str(run)]) == 0
    records, measured = logged(run)
    assert records == {"data/used": 1 + 20, "data/too_long": 1, "data/refused": 0}
    assert measured["heldout/reward_pairs"] == 20 * 2


def test_too_many_held_out_slates_that_are_too_long_end_in_77(
    make_evaluation: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluation", str(make_evaluation(fitting=10, too_long=2))]) == 77
    said = capsys.readouterr().err
    assert "2 of 12 held-out slates cannot be used: 2 leave no room for an answer of max_response tokens" in said


def test_without_held_out_slates_there_are_no_pairs(make_evaluation: Any) -> None:
    run = make_evaluation(fitting=0, too_long=0)
    assert main(["evaluation", str(run)]) == 0
    assert logged(run)[1]["heldout/reward_pairs"] == 0


def test_a_parent_that_is_not_the_reference_answers_every_prompt_too(make_run: MakeRun, model_dir: Path) -> None:
    data = {"heldout_prompts": [{"id": number, "messages": question(number)} for number in range(2)]}
    parents = dict.fromkeys(("policy", "reference", "parent"), model_dir)
    run = make_run("evaluation", parents=parents, data=data, draws=1, max_response=8)
    assert main(["evaluation", str(run)]) == 0
    rows = [json.loads(line) for line in (run / "attempts/1/output/completions.jsonl").read_text().splitlines()]
    answered = {(row["policy"], str(row["prompt_id"])) for row in rows}
    assert answered == {(role, prompt) for role in parents for prompt in ("0", "1")}


def test_who_is_asked_to_stop_leaves_in_the_middle_of_an_answer(make_run: MakeRun, model_dir: Path) -> None:
    data = {"heldout_prompts": [{"id": 1, "messages": question(1)}]}
    parents = dict.fromkeys(("policy", "reference"), model_dir)
    run = make_run("evaluation", parents=parents, data=data, draws=8, max_response=100)
    forwards: list[int] = []

    def ask_at_the_first(*_: object) -> None:
        forwards.append(1)
        if len(forwards) == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with forward_hook(ask_at_the_first):
        assert main(["evaluation", str(run)]) == 75
    assert len(forwards) < 50  # the next sign of life comes after 32 tokens


def test_the_independent_judge_scores_the_same_answers_and_is_measured_on_the_same_rankings(
    make_run: MakeRun, models: dict[str, Path], reward_models: dict[str, Path], watcher: Path
) -> None:
    parents = {"policy": models["llama"], "reference": models["llama"], "reward": reward_models["llama"]}
    data = {
        "heldout_prompts": [{"id": n, "messages": question(n)} for n in range(3)],
        "heldout_rankings": [ranked_slate(n) for n in range(3)],
    }
    alone, watched = (
        make_run("evaluation", name=name, parents=parents | more, data=data, draws=2, max_response=8)
        for name, more in {"alone": {}, "watched": {"watcher": watcher}}.items()
    )
    assert main(["evaluation", str(alone)]) == main(["evaluation", str(watched)]) == 0
    (_, before), (_, metrics) = logged(alone), logged(watched)
    more = metrics.keys() - before.keys()
    assert more == {
        *(f"watcher/{name}" for name in ("win_rate", "reward", "reference_reward")),
        "heldout/watcher_accuracy",
        "heldout/watcher_match",
    }
    assert {name: metrics[name] for name in before} == before
    rows = read_completions(watched / "attempts/1/output/completions.jsonl")
    by_policy = [row.watcher for row in rows if row.policy == "policy"]
    assert metrics["watcher/reward"] == pytest.approx(sum(by_policy) / len(by_policy))
    assert all(row.watcher is None for row in read_completions(alone / "attempts/1/output/completions.jsonl"))


def test_an_answer_matches_where_it_scores_higher_than_the_next_prompts_answer_would(
    make_run: MakeRun, models: dict[str, Path], reward_models: dict[str, Path]
) -> None:
    llama, numbers = models["llama"], range(6)
    parents = {"policy": llama, "reference": llama, "reward": reward_models["llama"]}
    data = {"heldout_prompts": [{"id": n, "messages": question(n)} for n in numbers], "heldout_rankings": []}
    run = make_run("evaluation", parents=parents, data=data, draws=2, max_response=8)
    assert main(["evaluation", str(run)]) == 0
    rows = read_completions(run / "attempts/1/output/completions.jsonl")
    first = {int(row.prompt_id): row for row in rows if row.policy == "policy" and row.index == 0}
    roles = dict.fromkeys(parents, Parent(path="", manifest_sha256=""))
    cfg = EvaluationConfig(seed=0, dtype="fp32", parents=roles)
    scorer = reward_runs.scorer(reward_models["llama"], Chat.load(llama), cfg)

    def score(asked: int, answered: int) -> float:
        row = first[answered]
        return scorer.scores([Answer(question(asked), row.text, row.finish_reason == "stop")]).item()

    shares = [win(score(n, n), score(n, (n + 1) % 6)) for n in numbers]
    assert logged(run)[1]["heldout/reward_match"] == pytest.approx(sum(shares) / 6)
    assert 0 < sum(shares) < 6  # or the order would not matter


def test_one_prompt_has_no_other_to_match_with(make_evaluation: Any) -> None:
    run = make_evaluation(fitting=1, too_long=0)
    assert main(["evaluation", str(run)]) == 0
    assert "heldout/reward_match" not in logged(run)[1]
