"""Maximum likelihood: one update that makes given answers more likely. Pretraining and SFT are both this."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from ..data.batching import collate, micro_batches
from ..data.chat import Rendered
from ..logprobs import masked_sum, token_logprobs
from ..networks.networks import Policy, device
from .learner import Learner


class Imitation(NamedTuple):
    """Who imitates, and how its batches are cut."""

    policy: Policy
    learner: Learner
    pad_id: int
    batch_tokens: int
    touch: Callable[[], None]

    def step(self, batch: Sequence[Rendered], learning_rate: float) -> float:
        """One update; returns the loss in nats per answer token.

        The loss is the mean over the answer tokens of the whole batch, so the cut into micro-batches changes nothing.
        """
        answer_tokens = sum(len(sample.response) for sample in batch)
        loss = torch.zeros((), device=device())
        for indices in micro_batches([sample.length for sample in batch], self.batch_tokens):
            part = collate([batch[index] for index in indices], self.pad_id, device())
            part_loss = -masked_sum(token_logprobs(self.policy, part), part.response) / answer_tokens
            part_loss.backward()
            loss += part_loss.detach()
            self.touch()
        self.learner.step(learning_rate)
        return loss.item()
