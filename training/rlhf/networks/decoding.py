"""Token-by-token decoding of a batch of prompts with a cache, from which rows leave when their answers end.

Sampling and the self-test both decode here, so that what is tested is what is used.
Dims: A rows that go on, B rows in the batch and its cache, N new tokens, T all tokens, V vocabulary.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.batching import collate_prompts

if TYPE_CHECKING:
    from .policy import Policy


class Decoding:
    """A batch of prompts, and the cache of what the policy has read of them."""

    def __init__(self, policy: "Policy", prompts: Sequence[list[int]], pad_id: int) -> None:
        self._policy = policy
        self._cache = policy.new_cache()
        # (B, N) tokens that are not in the cache yet, and (B, T) the mask over all
        self._tokens, self._attention = collate_prompts(prompts, pad_id, policy.device)
        self._going = torch.arange(len(prompts), device=policy.device)  # (A,) rows of the batch that go on

    def next_logits(self) -> Tensor:
        """(A, V) fp32 logits of the next token of each row that goes on."""
        logits = self._policy.next_logits(self._tokens, self._attention, self._cache)  # (B, V)
        return logits if len(logits) == len(self._going) else logits[self._going]

    def append(self, chosen: Tensor, going: Tensor) -> None:
        """Append a token of `chosen` (A,) to each row. Of the A rows, those at the indices `going` go on."""
        tokens, attention = self._tokens.new_zeros(len(self._attention)), self._attention
        tokens[self._going] = chosen
        self._going = self._going[going]
        if len(self._going) < len(tokens) and self._policy.cache_drops_rows:
            # Every kind of cache layer has this method; batch_select_indices forgets the states of hybrid ones.
            self._cache.reorder_cache(self._going)  # type: ignore[arg-type]
            tokens, attention = tokens[self._going], attention[self._going]
            self._going = torch.arange(len(tokens), device=tokens.device)
        self._tokens, self._attention = tokens[:, None], F.pad(attention, (0, 1), value=True)
