"""Fixtures of the stages' tests."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from tests.rlhf.stages.trainers import MakeTrainer, configured, count_of_e
from training.rlhf.data.chat import Chat
from training.rlhf.networks.policy import load_policy
from training.rlhf.networks.scalar_model import scalar_from_policy
from training.rlhf.seeding import generator
from training.rlhf.stages.ppo import Trainer
from training.rlhf.stages.scoring import Answer


@pytest.fixture
def make_trainer(model_dir: Path, chat: Chat) -> MakeTrainer:
    def make(rewarder: Callable[[Sequence[Answer]], Tensor] = count_of_e, **options: Any) -> Trainer:
        policy, reference = (load_policy(model_dir, chat, "fp32") for _ in range(2))
        critic = scalar_from_policy(load_policy(model_dir, chat, "fp32"), "fp32", generator(0, "critic"))
        return Trainer(policy, reference, critic, chat, rewarder, configured(**options), report_progress=lambda: None)

    return make
