"""The gold figures, on answers few enough to count by hand, and what the demo prints of them."""

import json

import pytest

from training.tiny import demo, figures
from training.tiny.figures import JudgedAnswer

HEADACHE = "How do I treat my headache?"
GOOD, FAIR, BAD = "Drink a big glass of water. Eat something light.", "Eat something light.", "What a silly question."


def answer(policy, gold, *, prompt="1", reward=None, stopped=True, n_tokens=10):
    return JudgedAnswer(
        prompt_id=prompt, policy=policy, text="", n_tokens=n_tokens, stopped=stopped, reward=reward, gold=gold
    )


def test_a_win_rate_counts_every_cross_pair_and_half_of_each_tie():
    # Prompt 1: 2 > 1, 2 > 0, 1 = 1 (half), 1 > 0: 3.5 of 4. Prompt 2: 0 < 1: 0 of 1. Prompts weigh the same.
    estimate = figures.win_rate({"1": [2.0, 1.0], "2": [0.0]}, {"1": [1.0, 0.0], "2": [1.0]})
    assert estimate.value == pytest.approx((3.5 / 4 + 0.0) / 2)


def test_the_standard_error_is_that_of_a_mean_over_prompts():
    values = [0.0, 1.0] * 200
    assert figures.bootstrapped(values).error == pytest.approx(0.5 / 400**0.5, rel=0.15)


def test_reward_accuracy_compares_answers_to_the_same_prompt_whose_gold_differs():
    answers = [
        answer("reference", gold, reward=reward) for gold, reward in ((2.0, 0.9), (1.0, 0.1), (1.0, 0.5), (0.0, 0.3))
    ]
    answers.append(answer("reference", 5.0, prompt="2", reward=-9.0))
    # Of the six pairs of prompt 1 one is a tie; of the others only (1.0, 0.1) over (0.0, 0.3) is the wrong way round.
    assert figures.reward_accuracy(answers) == pytest.approx(4 / 5)


def test_without_a_reward_model_there_is_no_reward_accuracy():
    assert figures.reward_accuracy([answer("reference", 1.0), answer("reference", 2.0)]) is None


def test_answers_are_read_from_what_an_evaluation_wrote(tmp_path):
    prompts = [{"id": 7, "messages": [{"role": "user", "content": HEADACHE}]}]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(one) + "\n" for one in prompts))
    row = {"prompt_id": "7", "index": 0, "policy": "policy", "n_tokens": 9, "logprob": -3.0, "reward": None}
    rows = [row | {"text": text, "finish_reason": "stop"} for text in (GOOD, BAD)]
    (tmp_path / "completions.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    answers = figures.read_answers(tmp_path / "completions.jsonl", figures.read_questions(tmp_path / "prompts.jsonl"))
    assert [one.gold for one in answers] == pytest.approx([1.9, -1.5])


def test_the_demo_says_null_where_a_round_has_no_figure():
    sft = [answer("policy", gold) for gold in (1.0, 2.0)]
    first = [*sft, answer("reference", 0.0), answer("reference", 1.0)]
    second = [answer("policy", 3.0), answer("reference", 1.0, reward=0.0), answer("reference", 2.0, reward=1.0)]
    stage = {
        "started_at": "2026-11-23T10:00:00Z",
        "finished_at": "2026-11-23T10:00:02.5Z",
        "metrics": {"heldout/kl": 1.5},
    }
    finished = {"stages": [{"stage": name, "run": stage} for name in ("sft", "evaluation")]}
    taught = {"stages": [{"stage": name, "run": stage} for name in ("reward", "ppo", "evaluation")]}
    reports = [demo.report(1, finished, first, first), demo.report(2, taught, second, first)]
    one, two = demo.summary(3, reports, 12.34)["rounds"]
    assert one == {
        "number": 1,
        "stages": {"sft": 2.5, "evaluation": 2.5},
        "heldout_rm_accuracy": None,
        "kl_nats": None,
        "gold_mean": 1.5,
        "gold_win_rate_vs_sft": None,
    }
    assert (two["heldout_rm_accuracy"], two["kl_nats"], two["gold_win_rate_vs_sft"]) == (1.0, 1.5, 1.0)
    assert any("0.875" in line for line in demo.table(reports))  # SFT against base: 3.5 of 4
