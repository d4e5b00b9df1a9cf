"""Prompts that a policy continues token by token, each row for as long as it goes on.

Sampling and the self-test of a model both decode here, so that what is tested is what is used.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.batching import collate_prompts

if TYPE_CHECKING:
    from .networks import Policy


class Decoding:
    """A batch of prompts with what the policy's cache has read of them."""

    def __init__(self, policy: "Policy", prompts: Sequence[list[int]], pad_id: int) -> None:
        self._policy = policy
        self._cache = policy.new_cache()
        # (B, N) not read yet, and (B, T)
        self._tokens, self._attention = collate_prompts(prompts, pad_id, policy.device)
        self._going = torch.arange(len(prompts), device=policy.device)  # (A,) rows of the batch that go on

    def next_logits(self) -> Tensor:
        """(A, V) fp32: what each row that goes on may go on with."""
        logits = self._policy.next_logits(self._tokens, self._attention, self._cache)  # (B, V)
        return logits if len(logits) == len(self._going) else logits[self._going]

    def append(self, chosen: Tensor, going: Tensor) -> None:
        """Each row gets its token of `chosen` (A,); those numbered in `going`, counted among the A, go on."""
        tokens, attention = self._tokens.new_zeros(len(self._attention)), self._attention
        tokens[self._going] = chosen
        self._going = self._going[going]
        if len(self._going) < len(tokens) and self._policy.rows_leave:
            # The way that every kind of layer knows; batch_select_indices forgets the states of hybrid ones.
            self._cache.reorder_cache(self._going)  # type: ignore[arg-type]
            tokens, attention = tokens[self._going], attention[self._going]
            self._going = torch.arange(len(tokens), device=tokens.device)
        self._tokens, self._attention = tokens[:, None], F.pad(attention, (0, 1), value=True)
