"""A trainer of PPO on tiny models, outside of any run directory."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from training.rlhf.config import Parent, PPOConfig
from training.rlhf.data.records import Prompt
from training.rlhf.run.checkpoint import module_tensors
from training.rlhf.stages.ppo import Trainer
from training.rlhf.stages.rollouts import Rollout
from training.rlhf.stages.scoring import Answer

PROMPTS = [
    Prompt(id=str(number), messages=[{"role": "user", "content": f"What is {'a red ' * number}fox?"}])
    for number in range(6)
]
NOBODY = Parent(path="", manifest_sha256="")
MakeTrainer = Callable[..., Trainer]  # with a rewarder and fields of the config, if others than here


def configured(**options: Any) -> PPOConfig:
    small = {"iterations": 4, "rollout_size": 8, "minibatch_size": 4, "max_response": 10, "batch_tokens": 100}
    rates = {"learning_rate": 1e-2, "value_learning_rate": 1e-2}
    parents = {"policy": NOBODY, "reference": NOBODY, "reward": NOBODY}
    return PPOConfig(seed=0, dtype="fp32", parents=parents, **{**small, **rates, **options})


def count_of_e(answers: Sequence[Answer]) -> Tensor:
    """A reward that depends on the text alone."""
    return torch.tensor([answer.text.count("e") / 2 for answer in answers])


def rolled_out(trainer: Trainer, iteration: int = 0) -> list[Rollout]:
    return [
        rollout for minibatch in trainer.roll_out(PROMPTS, iteration, trainer.report_progress) for rollout in minibatch
    ]


def weights(module: torch.nn.Module) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in module_tensors(module).values()])
