"""Token ids to rectangular tensors: the one place that pads, counts positions and decides what a mask means.

A mask is True where something counts. Sequences are padded on the right for scoring and on the left for sampling;
position ids make both the same to a network.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .. import ranks, seeding
from .chat import Rendered


class Batch(NamedTuple):
    """Whole sequences, padded on the right. B samples, T positions; column t is about token t."""

    tokens: Tensor  # (B, T) int64
    attention: Tensor  # (B, T) bool, True on real tokens
    response: Tensor  # (B, T) bool, True on answer tokens, the end id included: the only ones that enter a loss


def collate(rendered: Sequence[Rendered], pad_id: int, device: torch.device | str = "cpu") -> Batch:
    """The sequences as one batch, as wide as the longest of them; where there are none, one token that counts nowhere.

    A rank that has nothing left to read passes that through a sharded network, for others wait for its part of it.
    """
    rendered = rendered or [Rendered([pad_id], [])]
    width = max(sample.length for sample in rendered)
    tokens = torch.full((len(rendered), width), pad_id, dtype=torch.int64)
    for row, sample in enumerate(rendered):
        tokens[row, : sample.length] = torch.tensor(sample.prompt + sample.response)
    column = torch.arange(width)  # (T,)
    ends = torch.tensor([[sample.length] for sample in rendered])  # (B, 1)
    starts = torch.tensor([[len(sample.prompt)] for sample in rendered])  # (B, 1)
    attention = column < ends  # (B, T)
    return Batch(tokens.to(device), attention.to(device), (attention & (column >= starts)).to(device))


def collate_prompts(
    prompts: Sequence[list[int]], pad_id: int, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Prompts padded on the left, so that all answers begin in the same column: tokens and attention, (B, T)."""
    width = max(len(prompt) for prompt in prompts)
    tokens = torch.tensor([[pad_id] * (width - len(prompt)) + prompt for prompt in prompts])
    starts = torch.tensor([[width - len(prompt)] for prompt in prompts])  # (B, 1)
    return tokens.to(device), (torch.arange(width) >= starts).to(device)


def positions(attention: Tensor) -> Tensor:
    """(B, T) int64: the position of each real token in its own sequence, wherever the padding is."""
    return (attention.long().cumsum(dim=1) - 1).clamp(min=0)


def last_column(attention: Tensor) -> Tensor:
    """(B,) int64: the column of each sequence's last real token."""
    return (attention * torch.arange(attention.shape[1], device=attention.device)).argmax(dim=1)


def micro_batches(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Split the indices of `lengths` into groups of similar length that hold at most `tokens`, padding included.

    A single sequence longer than that still gets a group of its own. The groups depend on the lengths only.
    """
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        # Ascending order makes the newest member the longest, which is what all are padded to.
        if groups and (len(groups[-1]) + 1) * lengths[index] <= tokens:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def own_micro_batches(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """The same for the share of this rank, where several processes work on one batch: each has short and long ones.

    All ranks get as many groups, as they may have to pass through a network together; the last ones may be empty.
    """
    shares = ranks.shares(sorted(range(len(lengths)), key=lambda index: lengths[index]))
    cuts = [micro_batches([lengths[index] for index in share], tokens) for share in shares]
    own = [[shares[ranks.own()][number] for number in group] for group in cuts[ranks.own()]]
    return own + [[] for _ in range(max(map(len, cuts)) - len(own))]


def epoch_batches(count: int, size: int, generator: torch.Generator) -> list[list[int]]:
    """The numbers below `count` in random order, `size` at a time; the last batch may be smaller."""
    order = seeding.permutation(count, generator)
    return [order[start : start + size] for start in range(0, count, size)]
