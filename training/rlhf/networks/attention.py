"""Attention for sequences that lie end to end in one row, inside any transformers model that lets it be replaced.

A batch of sequences of different lengths is a rectangle with padding, and on ordinary data a third or more of it is
padding that every layer computes. Attention is the only part of a transformer that has to know where a sequence ends.
So the network gets all tokens in one row, (1, N), and only here are they put into a rectangle and taken out again.

transformers calls `attend` with the queries, keys and values of a layer, and passes on the keyword `layout`: where the
sequences lie. Dims: N tokens, S sequences, T positions of the longest, H heads (of keys and values: fewer, where heads
are grouped), D numbers a head.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

from . import device, shapes

NAME = "packed"  # of this attention among those of transformers


class Heads(NamedTuple):
    """What a layer's attention works on, with the dimensions in one order or another."""

    query: Tensor
    key: Tensor
    value: Tensor

    def for_training(self) -> "Heads":
        """As training reads them: on a CPU, the backward pass of attention in bf16 takes several times that in fp32."""
        return self.each(Tensor.float) if not device.on_accelerator() else self

    def each(self, change: Callable[[Tensor], Tensor]) -> "Heads":
        """All three, changed alike."""
        return Heads(change(self.query), change(self.key), change(self.value))


class Options(NamedTuple):
    """What layers of some architectures add to plain attention."""

    scaling: float  # of the scores
    window: int | None  # a token sees this many, itself included; None for all before it
    softcap: float | None  # scores are squashed to within this


class Layout(Protocol):
    """Where the sequences lie in the row, and what each of their tokens may see."""

    tokens: Tensor  # (N,) int64
    positions: Tensor  # (N,) int64, of each token in its sequence

    def attend(self, layer: int, heads: Heads, options: Options) -> Tensor:
        """(N, H * D): what each token reads from those it may see. Of the heads, each is (N, H, D)."""


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: Layout,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_others: Any,  # of the architecture; where one of them matters, `packs` finds another result
) -> tuple[Tensor, None]:
    """The attention of one layer, as transformers calls it: (1, H, N, D) each, and the result is (1, N, H, D)."""
    options = Options(scaling or query.shape[-1] ** -0.5, sliding_window, softcap)
    count = len(layout.tokens)  # N; what lies behind them is padding
    heads = Heads(query, key, value).each(lambda states: states.transpose(1, 2)[0, :count])  # (N, H, D) each
    on_cpu = not device.on_accelerator()
    with torch.autocast("cpu", enabled=False) if on_cpu else nullcontext():
        read = layout.attend(_layer_of(module), heads, options)  # (N, H * D)
    return shapes.padded(read, query.shape[2] - count).view(1, query.shape[2], query.shape[1], -1), None


def _layer_of(module: nn.Module) -> int:
    return getattr(module, "layer_idx", None) or 0


AttentionInterface.register(NAME, attend)


class Rows:
    """S sequences of `lengths`, end to end, and the rectangle (S, T) that they fill from the left."""

    def __init__(self, lengths: Sequence[int], device: torch.device | str) -> None:
        self.count, self.width = len(lengths), max(lengths, default=0)
        size = torch.tensor(lengths, device=device)
        real = torch.arange(self.width, device=device) < size[:, None]  # (S, T)
        self.places = real.flatten().nonzero().squeeze(1)  # (N,) of the tokens in the flattened rectangle
        self.positions = self.places % max(1, self.width)  # (N,)
        self.ends = size.cumsum(0) - 1  # (S,) the last token of each sequence, in the row

    def spread(self, states: Tensor) -> Tensor:
        """(S, H, T, D), 0 where there is no token, from (N, H, D)."""
        if len(states) < self.count * self.width:
            states = _Spread.apply(states, self.places, self.count * self.width)
        return states.view(self.count, self.width, *states.shape[1:]).transpose(1, 2)

    def gather(self, states: Tensor) -> Tensor:
        """(N, H * D) from (S, H, T, D)."""
        flat = states.transpose(1, 2).reshape(self.count * self.width, -1)
        return flat if len(self.places) == len(flat) else _Gather.apply(flat, self.places)


class _Spread(torch.autograd.Function):
    """Rows to places that differ. An index in autograd would add up what goes back, one row at a time."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, places: Tensor, count: int) -> Tensor:
        ctx.save_for_backward(places)
        return rows.new_zeros((count, *rows.shape[1:])).index_copy_(0, places, rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (places,) = ctx.saved_tensors
        return grad.index_select(0, places), None, None


class _Gather(torch.autograd.Function):
    """The inverse of _Spread."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.count = len(rows)
        return rows.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        return grad.new_zeros((ctx.count, *grad.shape[1:])).index_copy_(0, places, grad), None


def causal(heads: Heads, options: Options) -> Tensor:
    """(S, H, T, D): each token reads itself and those before it in its own sequence; each of the heads is (S, H, T, D).

    Padding on the right needs no mask: no token sees what comes after it.
    """
    query, key, value = heads
    width = query.shape[2]
    if options.softcap is None and (options.window is None or options.window >= width):
        grouped = key.shape[1] < query.shape[1]
        return F.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=options.scaling, enable_gqa=grouped
        )
    position = torch.arange(width, device=query.device)
    seen = sees(position[:, None], position, options.window)  # (T, T)
    return weighted(scores(query, key, options).where(seen, -torch.inf), value)


def fused(heads: Heads, mask: Tensor, options: Options) -> Tensor:
    """(S, H, 1, D): one token a sequence reads those where `mask`, which is added to scores (S, H, 1, U), is 0."""
    query, key, value = heads
    grouped = key.shape[1] < query.shape[1]
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=options.scaling, enable_gqa=grouped)


def in_products(heads: Heads, mask: Tensor, options: Options) -> Tensor:
    """The same by products of matrices, where heads that share keys and values need no copy of them."""
    query, key, value = heads
    grouped = query.view(len(query), key.shape[1], -1, query.shape[-1])  # (S, G, H / G, D), for G heads of keys
    return weighted(scores(grouped, key, options) + mask, value).view(query.shape)


def sees(query: Tensor, key: Tensor, window: int | None) -> Tensor:
    """Whether a token at position `query` may see one at position `key`; they broadcast."""
    seen = key <= query
    return seen if window is None else seen & (key > query - window)


def scores(query: Tensor, key: Tensor, options: Options) -> Tensor:
    """(S, H, T, U) before the softmax: of queries (S, H, T, D) and keys (S, H or fewer, U, D)."""
    return capped((query * options.scaling) @ alike(key, query).transpose(-1, -2), options)


def capped(raw: Tensor, options: Options) -> Tensor:
    """Scores, squashed where the architecture does so."""
    return raw if options.softcap is None else (raw / options.softcap).tanh() * options.softcap


def weighted(masked: Tensor, value: Tensor) -> Tensor:
    """(S, H, T, D): the means of values (S, H or fewer, U, D), weighted by the softmax of scores (S, H, T, U)."""
    return masked.softmax(dim=-1) @ alike(value, masked)


def alike(states: Tensor, query: Tensor) -> Tensor:
    """The states with as many heads as the query, where several of its heads share a key and a value."""
    groups = query.shape[1] // states.shape[1]
    return states if groups == 1 else states.repeat_interleave(groups, dim=1)
