"""The head of a causal language model: from hidden states to logits, for any tokens and nothing else.

A vocabulary is large: logits of 8,192 tokens and 152,000 ids are 4.6 GiB in fp32. With the head apart from the network
they are computed only where an answer's token is predicted, and in chunks.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .. import memory
from .transformer import CANNOT_RUN, ForwardPass
from .trunk import TOLERANCE, Trunk, assumed, tried


@dataclass
class Head:
    """A linear layer, and what some architectures do to its logits."""

    linear: nn.Module
    factor: float = 1.0
    softcap: float | None = None

    def __call__(self, states: Tensor) -> Tensor:
        """(A, V) logits of hidden states (A, width)."""
        logits: Tensor = self.linear(states)
        if self.softcap:
            logits = (logits / self.softcap).tanh() * self.softcap
        return logits if self.factor == 1 else logits * self.factor


@torch.no_grad()
def head_of(network: PreTrainedModel, trunk: Trunk) -> Head | None:
    """The head of a network whose trunk does not pack yet, or None where this cannot say what the network does."""
    linear: Any = network.get_output_embeddings()
    if linear is None:
        return None
    config = network.config.get_text_config()
    factor = getattr(config, "logit_scale", None) or 1 / (getattr(config, "logits_scaling", None) or 1)
    head = Head(linear, factor, getattr(config, "final_logit_softcapping", None))
    if known := assumed.get():
        return head if known.has_head else None
    tokens, mask = tried(network)
    try:
        expected = ForwardPass(network)(tokens, mask, use_cache=False).logits[mask]  # (N, V)
        gap = (head(trunk.hidden(tokens, mask)) - expected).abs().max()
    except CANNOT_RUN as error:
        if memory.ran_out(error):
            raise
        return None
    return head if gap <= TOLERANCE * expected.abs().max() else None
