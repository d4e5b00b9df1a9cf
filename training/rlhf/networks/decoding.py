"""Token-by-token decoding of prompts, which may join while others are being answered, and leave when they end.

Sampling and the self-test both decode here, so that what is tested is what is used. A policy that packs decodes in
slots: a cache of fixed size, whose slots are filled again as answers end. Others decode with the cache that
transformers gives them, one batch after another.

Dims: A rows that go on, B rows in the batch and its cache, N new tokens, T all tokens, V vocabulary, U slots in use,
H heads, L tokens of the longest row, D numbers a head.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedConfig

from ..data.batching import collate, collate_prompts
from ..data.chat import Rendered
from . import attention, device, shapes
from .attention import Heads, Layout, Options
from .layouts import WholeSequences

if TYPE_CHECKING:
    from .policy import Policy

MOST_ROWS = 512  # that are decoded at a time: with more a step takes longer, and no less for each
LENGTH_STEP = 16  # tokens by which the cache grows
FEWEST_LIVE = 0.75  # of the slots in use; with fewer, those that live are moved together


class Decoding(Protocol):
    """Rows of which each continues a prompt."""

    @property
    def room(self) -> int:
        """How many prompts may join now."""

    def join(self, prompts: Sequence[list[int]]) -> None:
        """Rows for more prompts, behind those that are there."""

    def next_logits(self) -> Tensor:
        """(A, V) fp32 logits of the next token of each row."""

    def append(self, chosen: Tensor, going: Tensor) -> None:
        """Append a token of `chosen` (A,) to each row. Of the A rows, those at the indices `going` go on."""


def rows_that_fit(policy: "Policy", width: int, cache_mb: int) -> int:
    """How many rows of `width` tokens can be decoded at a time with a cache of so many MB."""
    layers = policy.network.config.get_text_config().per_layer_config  # of some models they differ
    numbers = width * sum(map(_keys_and_values, layers))
    return max(1, min(MOST_ROWS, cache_mb * 1_000_000 // (numbers * _cache_dtype(policy).itemsize)))


def _keys_and_values(layer: PreTrainedConfig) -> int:
    """Numbers that the cache of a layer keeps of each token."""
    heads = getattr(layer, "num_attention_heads", None) or 1
    head_width: int = getattr(layer, "head_dim", None) or layer.hidden_size // heads
    groups: int = getattr(layer, "num_key_value_heads", None) or heads
    return 2 * groups * head_width


def _cache_dtype(policy: "Policy") -> torch.dtype:
    """Of keys and values. On a CPU without AMX, bf16 is read several times more slowly than fp32."""
    is_quick = device.on_accelerator() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if policy.bf16 and (is_quick or not policy.trunk.packs) else torch.float32


def _is_fused(cache: torch.dtype) -> bool:
    """Whether the newest tokens read a cache in torch's fused kernel.

    In fp32 on a CPU that takes twice as long as products of matrices: it goes through the heads one by one.
    """
    return device.on_accelerator() or cache == torch.bfloat16


def new_decoding(policy: "Policy", capacity: int, width: int, pad_id: int) -> Decoding:
    """Decoding of at most `capacity` rows at a time, of at most `width` tokens each."""
    return SlotDecoding(policy, capacity, width) if policy.trunk.packs else BatchDecoding(policy, capacity, pad_id)


class SlotDecoding:
    """Rows in the slots of one cache."""

    def __init__(self, policy: "Policy", capacity: int, width: int) -> None:
        self._policy = policy
        self._capacity, self._width, self._dtype = capacity, width, _cache_dtype(policy)
        self.is_fused = _is_fused(self._dtype)
        self._cache: dict[int, tuple[Tensor, ...]] = {}  # keys and values, by layer
        self._used = 0  # U: slots from the first one on
        self._lengths = torch.zeros(capacity, dtype=torch.int64, device=policy.device)  # tokens in the cache
        self._tokens = torch.zeros(capacity, dtype=torch.int64, device=policy.device)  # that are not in it yet
        self._rows = torch.zeros(0, dtype=torch.int64, device=policy.device)  # (A,) the slot of each
        self._joined = self._rows.new_zeros((0, policy.vocab_size), dtype=torch.float32)  # logits of those that joined
        self._longest = 0

    @property
    def room(self) -> int:
        """See Decoding."""
        return self._capacity - len(self._rows)

    def join(self, prompts: Sequence[list[int]]) -> None:
        """See Decoding. A prompt that several rows continue is read once."""
        numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(map(tuple, prompts)))}
        slots = self._free_slots(len(prompts))
        prompt_of = torch.tensor([numbers[tuple(prompt)] for prompt in prompts], device=slots.device)  # one a row
        read = collate([Rendered(list(prompt), []) for prompt in numbers], 0, slots.device)
        self._longest = max(self._longest, read.tokens.shape[1])
        layout = _Prompts(read.tokens, read.attention, self, slots, prompt_of)
        states = self._read(layout)[layout.last]
        self._joined = torch.cat([self._joined, self._policy.logits_of(states)[prompt_of]])
        self._lengths[slots] = read.attention.sum(dim=1)[prompt_of]
        self._rows = torch.cat([self._rows, slots])

    def next_logits(self) -> Tensor:
        """See Decoding."""
        before = len(self._rows) - len(self._joined)
        if not before:
            return self._joined
        self._longest = min(self._longest + 1, self._width)  # the longest row may have ended
        states, rows = self._read(_Step(self)), self._rows[:before]  # (U, width)
        predicting = shapes.padded(rows, shapes.padding(before, bf16=self._policy.bf16))
        logits = self._policy.logits_of(states[predicting])[:before]
        self._lengths[rows] += 1
        return torch.cat([logits, self._joined]) if len(self._joined) else logits

    def append(self, chosen: Tensor, going: Tensor) -> None:
        """See Decoding."""
        self._joined = self._joined[:0]
        self._tokens[self._rows] = chosen
        self._rows = self._rows[going]
        if len(self._rows) < FEWEST_LIVE * self._used:
            self._move_together()

    def cache(self, layer: int, heads: Heads) -> tuple[Tensor, ...]:
        """The cache of a layer: keys and values, (capacity, H, L, D) each; of the heads, each is (S, H, T, D).

        L is the whole width where the fused kernel reads it. Where products do, it grows with the longest row: they
        would copy a part of a wider cache for every token.
        """
        width = self._width if self.is_fused else min(self._width, (self._longest // LENGTH_STEP + 1) * LENGTH_STEP)
        if layer not in self._cache:
            self._cache[layer] = tuple(
                states.new_zeros((self._capacity, states.shape[1], width, states.shape[3])) for states in heads[1:]
            )
        elif (missing := width - self._cache[layer][0].shape[2]) > 0:
            self._cache[layer] = tuple(F.pad(part, (0, 0, 0, missing)) for part in self._cache[layer])
        return self._cache[layer]

    def cached(self, heads: Heads) -> Heads:
        """In the dtype of the cache; rotary positions may have given queries and keys another one."""
        return heads.each(lambda states: states.to(self._dtype))

    def _read(self, layout: Layout) -> Tensor:
        with self._policy.autocast():
            return self._policy.trunk.read(layout)

    def _free_slots(self, count: int) -> Tensor:
        """(count,) slots that no row has, the first ones first."""
        taken = torch.zeros(self._capacity, dtype=torch.bool, device=self._rows.device)
        taken[self._rows] = True
        free = (~taken).nonzero().squeeze(1)[:count]
        self._used = max(self._used, int(free[-1]) + 1)
        return free

    def _move_together(self) -> None:
        """Move the rows that live to the first slots. Rows of the cache that are read are those of slots in use."""
        live = len(self._rows)
        for parts in self._cache.values():
            for part in parts:
                part[:live] = part[self._rows]
        self._lengths[:live], self._tokens[:live] = self._lengths[self._rows], self._tokens[self._rows]
        self._rows = torch.arange(live, device=self._rows.device)
        self._used = live
        self._longest = int(self._lengths[:live].max()) if live else 0


class _Prompts(WholeSequences):
    """Prompts that are read once, and whose keys and values go into the slots of all rows that continue them."""

    def __init__(self, tokens: Tensor, mask: Tensor, decoding: SlotDecoding, slots: Tensor, prompt_of: Tensor) -> None:
        super().__init__(tokens, mask)
        self._decoding, self._slots, self._prompt_of = decoding, slots, prompt_of

    def attend(self, layer: int, heads: Heads, options: Options) -> Tensor:
        """See Layout."""
        rectangles = self._decoding.cached(heads).each(self.rows.spread)  # (S, H, T, D) each
        cache = self._decoding.cache(layer, rectangles)
        for part, states in zip(cache, rectangles[1:], strict=True):
            part[self._slots, :, : self.rows.width] = states[self._prompt_of]
        return self.rows.gather(attention.causal(rectangles, options)).to(heads.value.dtype)


class _Step:
    """The newest token of every slot in use, also of those that no row has: to leave them out would copy the cache."""

    def __init__(self, decoding: SlotDecoding) -> None:
        self._decoding = decoding
        used = decoding._used
        self.tokens, self.positions = decoding._tokens[:used], decoding._lengths[:used]
        self._slots = torch.arange(used, device=self.tokens.device)
        self._masks: dict[int | None, Tensor] = {}  # what is added to scores (U, 1, 1, L), by the layers' window

    def attend(self, layer: int, heads: Heads, options: Options) -> Tensor:
        """See Layout."""
        newest = self._decoding.cached(heads).each(lambda states: states[:, :, None])  # (U, H, 1, D) each
        keys, values = self._decoding.cache(layer, newest)
        keys[self._slots, :, self.positions] = newest.key[:, :, 0]
        values[self._slots, :, self.positions] = newest.value[:, :, 0]
        used = len(self._slots)
        width = self._decoding._longest if self._decoding.is_fused else keys.shape[2]
        stored = Heads(newest.query, keys[:used, :, :width], values[:used, :, :width])
        attend = attention.fused if self._decoding.is_fused and options.softcap is None else attention.in_products
        read = attend(stored, self._mask(width, options.window, keys.dtype), options)
        return read.flatten(1).to(heads.value.dtype)  # (U, H * D)

    def _mask(self, width: int, window: int | None, dtype: torch.dtype) -> Tensor:
        """(U, 1, 1, L): 0 where a slot's newest token sees what is stored, else minus infinity."""
        if window not in self._masks:
            stored = torch.arange(width, device=self.positions.device)
            seen = attention.sees(self.positions[:, None], stored, window)  # (U, L)
            mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, -torch.inf)
            self._masks[window] = mask[:, None, None]
        return self._masks[window]


class BatchDecoding:
    """One batch of prompts at a time, and the cache that transformers keeps of what the policy has read of them."""

    def __init__(self, policy: "Policy", capacity: int, pad_id: int) -> None:
        self._policy, self._capacity, self._pad_id = policy, capacity, pad_id
        self._going = torch.arange(0, device=policy.device)  # (A,) rows of the batch that go on

    @property
    def room(self) -> int:
        """See Decoding."""
        return 0 if len(self._going) else self._capacity

    def join(self, prompts: Sequence[list[int]]) -> None:
        """See Decoding."""
        self._cache = self._policy.new_cache()
        # (B, N) tokens that are not in the cache yet, and (B, T) the mask over all
        self._tokens, self._attention = collate_prompts(prompts, self._pad_id, self._policy.device)
        self._going = torch.arange(len(prompts), device=self._policy.device)

    def next_logits(self) -> Tensor:
        """See Decoding."""
        logits = self._policy.next_logits(self._tokens, self._attention, self._cache)  # (B, V)
        return logits if len(logits) == len(self._going) else logits[self._going]

    def append(self, chosen: Tensor, going: Tensor) -> None:
        """See Decoding."""
        tokens, attention = self._tokens.new_zeros(len(self._attention)), self._attention
        tokens[self._going] = chosen
        self._going = self._going[going]
        if len(self._going) < len(tokens) and self._policy.cache_drops_rows:
            # Every kind of cache layer has this method; batch_select_indices forgets the states of hybrid ones.
            self._cache.reorder_cache(self._going)  # type: ignore[arg-type]
            tokens, attention = tokens[self._going], attention[self._going]
            self._going = torch.arange(len(tokens), device=tokens.device)
        self._tokens, self._attention = tokens[:, None], F.pad(attention, (0, 1), value=True)
