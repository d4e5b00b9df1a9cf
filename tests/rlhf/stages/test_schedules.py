"""The learning rate of every step, as the optimizer takes it, against the schedule's closed form."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from tests.rlhf.conftest import MakeRun
from tests.rlhf.reward_runs import demonstration, ranked_slate
from tests.rlhf.stages.test_ppo_stage import PROMPTS
from training.rlhf.__main__ import main

PEAK = 2e-3


@contextmanager
def rates() -> Iterator[list[float]]:
    """The learning rate of every optimizer step inside the block."""
    seen: list[float] = []

    def note(optimizer: Optimizer, *_: Any) -> None:
        seen.append(optimizer.param_groups[0]["lr"])

    handle = register_optimizer_step_post_hook(note)
    yield seen
    handle.remove()


def rates_of(stage: str, run: Path) -> list[float]:
    with rates() as seen:
        assert main([stage, str(run)]) == 0
    return seen


def cosine_to_a_tenth(step: int, total: int) -> float:
    """From the peak at step 0 to a tenth of it behind the last step: min + (max - min) (1 + cos(pi t / T)) / 2."""
    low = PEAK / 10
    return low + (PEAK - low) * (1 + math.cos(math.pi * step / total)) / 2


@pytest.mark.parametrize(
    ("stage", "role", "data"),
    [
        ("sft", "base", {"demonstrations": [demonstration(n) for n in range(10)]}),
        ("reward", "policy", {"rankings": [ranked_slate(n) for n in range(10)]}),
    ],
)
def test_sft_and_reward_follow_a_cosine_to_a_tenth(
    make_run: MakeRun, models: dict[str, Path], stage: str, role: str, data: dict[str, Any]
) -> None:
    options = {"epochs": 2, "batch_size": 4, "learning_rate": PEAK, "max_response": 16}
    run = make_run(stage, parents={role: models["llama"]}, data=data, **options)
    total = 2 * 3  # two epochs of 4, 4 and 2 records
    assert rates_of(stage, run) == pytest.approx([cosine_to_a_tenth(step, total) for step in range(total)], rel=1e-12)


def test_ppo_falls_in_a_line_to_zero_for_policy_and_critic(
    make_run: MakeRun, models: dict[str, Path], reward_models: dict[str, Path]
) -> None:
    sizes = {"iterations": 4, "rollout_size": 4, "minibatch_size": 2, "max_response": 4, "kl_limit": 1e9}
    parents = {"policy": models["llama"], "reference": models["llama"], "reward": reward_models["llama"]}
    run = make_run(
        "ppo", parents=parents, data={"prompts": PROMPTS}, learning_rate=PEAK, value_learning_rate=3 * PEAK, **sizes
    )
    expected = [
        peak * (1 - iteration / 4) for iteration in range(4) for _minibatch in range(2) for peak in (PEAK, 3 * PEAK)
    ]
    assert rates_of("ppo", run) == pytest.approx(expected, rel=1e-12)


def test_pretraining_warms_up_and_falls_in_a_line_to_zero(make_run: MakeRun) -> None:
    corpus = [{"text": f"How do I boil {number} eggs? Put them into boiling water."} for number in range(40)]
    run = make_run(
        "pretraining",
        parents={},
        data={"corpus": corpus},
        learning_rate=PEAK,
        warmup=0.25,
        batch_size=4,
        tokens=3000,
        vocab_size=300,
        layers=1,
        hidden_size=16,
        mlp_size=32,
        heads=2,
    )
    seen = rates_of("pretraining", run)
    total = len(seen)
    assert total > 8
    expected = [PEAK * min(4 * step / total, (1 - step / total) / 0.75) for step in range(total)]
    assert seen == pytest.approx(expected, rel=1e-9)
