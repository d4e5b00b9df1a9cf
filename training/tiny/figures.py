"""Gold figures: what the simulated people think of a policy's answers to held-out prompts.

Everything is computed from exported completions, outside the engine, which never sees the gold utility.
"""

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from training.tiny.gold import utility

RESAMPLES = 1000  # of the prompts, for the standard error

Utilities = Mapping[str, Sequence[float]]  # prompt id -> what its answers are worth


class Estimate(NamedTuple):
    """A mean over prompts and its standard error, by bootstrap over the prompts."""

    value: float
    error: float


@dataclass(frozen=True, kw_only=True)
class JudgedAnswer:
    """One answer of a policy to a held-out prompt."""

    prompt_id: str
    policy: str  # "policy" or "reference"
    text: str
    n_tokens: int
    stopped: bool
    reward: float | None
    gold: float


def read_answers(completions: Path, questions: Mapping[str, str]) -> list[JudgedAnswer]:
    """The answers in an evaluation's completions.jsonl, judged; `questions` are the held-out prompts by id."""
    with completions.open(encoding="utf-8") as lines:
        return [_judged(json.loads(line), questions) for line in lines]


def read_questions(prompts: Path) -> dict[str, str]:
    """The last user turn of every prompt of a prompts file, by prompt id."""
    with prompts.open(encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    return {str(record["id"]): record["messages"][-1]["content"] for record in records}


def _judged(row: dict[str, Any], questions: Mapping[str, str]) -> JudgedAnswer:
    return JudgedAnswer(
        prompt_id=row["prompt_id"],
        policy=row["policy"],
        text=row["text"],
        n_tokens=row["n_tokens"],
        stopped=row["finish_reason"] == "stop",
        reward=row["reward"],
        gold=utility(questions[row["prompt_id"]], row["text"]),
    )


def of_policy(answers: Iterable[JudgedAnswer], policy: str) -> list[JudgedAnswer]:
    """The answers of one of the two policies that an evaluation compared."""
    return [answer for answer in answers if answer.policy == policy]


def utilities(answers: Iterable[JudgedAnswer]) -> dict[str, list[float]]:
    """What the answers to each prompt are worth."""
    by_prompt: dict[str, list[float]] = {}
    for answer in answers:
        by_prompt.setdefault(answer.prompt_id, []).append(answer.gold)
    return by_prompt


def win_rate(ours: Utilities, theirs: Utilities) -> Estimate:
    """How often an answer of ours is worth more than one of theirs to the same prompt: all pairs, a tie is half."""
    shares = [
        fmean(_win(mine, other) for mine in ours[prompt] for other in theirs[prompt])
        for prompt in sorted(ours.keys() & theirs.keys())
    ]
    return bootstrapped(shares)


def _win(mine: float, other: float) -> float:
    return 0.5 if abs(mine - other) < 1e-9 else float(mine > other)


def bootstrapped(values: Sequence[float]) -> Estimate:
    """The mean of one value a prompt, and how far it would move with other prompts."""
    generator = random.Random("bootstrap")
    means = [fmean(generator.choices(values, k=len(values))) for _ in range(RESAMPLES)]
    return Estimate(fmean(values), stdev(means))


def reward_accuracy(answers: Iterable[JudgedAnswer]) -> float | None:
    """How often the reward model orders two answers to a prompt as the noiseless gold utility does.

    Pairs of equal gold are left out; None without a reward model.
    """
    by_prompt: dict[str, list[JudgedAnswer]] = {}
    for answer in answers:
        by_prompt.setdefault(answer.prompt_id, []).append(answer)
    pairs = [pair for answers in by_prompt.values() for pair in combinations(answers, 2)]
    right = [
        (one.gold > other.gold) == (one.reward > other.reward)
        for one, other in pairs
        if one.reward is not None and other.reward is not None and abs(one.gold - other.gold) > 1e-9
    ]
    return fmean(right) if right else None


def mean_gold(answers: Iterable[JudgedAnswer]) -> float:
    """What an answer is worth on average."""
    return fmean(answer.gold for answer in answers)


def stop_rate(answers: Iterable[JudgedAnswer]) -> float:
    """The share of answers that ended by themselves."""
    return fmean(answer.stopped for answer in answers)


def mean_length(answers: Iterable[JudgedAnswer]) -> float:
    """Tokens of an answer on average."""
    return fmean(answer.n_tokens for answer in answers)


def report(number: int, answers: Sequence[JudgedAnswer], first: Sequence[JudgedAnswer]) -> dict[str, Any]:
    """All figures of a round from its evaluation's answers, and those of round 1, whose policy was the first SFT."""
    ours, theirs = of_policy(answers, "policy"), of_policy(answers, "reference")
    sft = of_policy(first, "policy")
    figures: dict[str, Any] = {"number": number, "gold_mean": mean_gold(ours)}
    figures["stop_rate"], figures["length"] = stop_rate(ours), mean_length(ours)
    if answers is first:
        return figures | _pair("gold_win_rate_vs_base", ours, theirs)
    figures["heldout_rm_accuracy"] = reward_accuracy(theirs)
    figures["gold_mean_sft"] = mean_gold(sft)
    return figures | _pair("gold_win_rate_vs_sft", ours, sft) | _pair("sft_vs_itself", theirs, sft)


def _pair(name: str, ours: Sequence[JudgedAnswer], theirs: Sequence[JudgedAnswer]) -> dict[str, float]:
    estimate = win_rate(utilities(ours), utilities(theirs))
    return {name: estimate.value, f"{name}_se": estimate.error}
