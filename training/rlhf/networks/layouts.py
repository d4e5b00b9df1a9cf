"""The layouts of sequences in a row: whole sequences, and completions that share a prompt.

Dims: N tokens, S sequences, G prompts, K completions of a prompt, P and C tokens of the longest prompt and completion,
H heads, D numbers a head.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..data.chat import Rendered
from . import attention
from .attention import Heads, Options, Rows


class WholeSequences:
    """Sequences end to end, in the order of a batch."""

    def __init__(self, tokens: Tensor, mask: Tensor) -> None:
        """From a batch (S, T), whatever side its padding is on; `mask` is True on real tokens."""
        self.rows = Rows(mask.sum(dim=1).tolist(), tokens.device)
        self.tokens, self.positions, self.last = tokens[mask], self.rows.positions, self.rows.ends

    def attend(self, layer: int, heads: Heads, options: Options) -> Tensor:
        """See Layout."""
        rectangles = heads.each(self.rows.spread).for_training()  # (S, H, T, D) each
        return self.rows.gather(attention.causal(rectangles, options).to(heads.value.dtype))


class SharedPrompts:
    """Each prompt once, then its completions: they read it, and themselves, but not each other.

    A slate has K completions of one prompt, so its prompt is computed once instead of K times. Prompts with similar
    numbers of completions are read together, padded with empty ones to the largest number, which still cost attention.
    """

    def __init__(self, rendered: Sequence[Rendered], device: torch.device | str) -> None:
        groups: dict[tuple[int, ...], list[int]] = {}
        for row, one in enumerate(rendered):
            groups.setdefault(tuple(one.prompt), []).append(row)
        rows: list[int] = []  # of the sequences, in the order of the parts
        self._parts: list[_Slates] = []
        for part in _similar(list(groups.values())):
            self._parts.append(_Slates([[rendered[row] for row in own] for own in part], device))
            rows += [row for own in part for row in own]
        self._counts = [len(part.tokens) for part in self._parts]
        self.tokens = torch.cat([part.tokens for part in self._parts])
        self.positions = torch.cat([part.positions for part in self._parts])
        firsts = [sum(self._counts[:number]) for number in range(len(self._parts))]
        last = torch.cat([part.last + first for part, first in zip(self._parts, firsts, strict=True)])
        self.last = last[torch.tensor(rows, device=device).argsort()]  # (S,) the last token of each, in the row

    def attend(self, layer: int, heads: Heads, options: Options) -> Tensor:
        """See Layout."""
        parts = zip(*(states.split(self._counts) for states in heads), strict=True)
        return torch.cat([part.attend(Heads(*own), options) for part, own in zip(self._parts, parts, strict=True)])


def _similar(groups: list[list[int]]) -> list[list[list[int]]]:
    """The groups, cut into parts in which each has more than half as many members as the largest."""
    parts: list[list[list[int]]] = []
    for group in sorted(groups, key=len, reverse=True):
        if parts and 2 * len(group) > len(parts[-1][0]):
            parts[-1].append(group)
        else:
            parts.append([group])
    return parts


class _Slates:
    """G prompts with up to K completions each: first the tokens of all prompts, then those of all completions."""

    def __init__(self, slates: Sequence[Sequence[Rendered]], device: torch.device | str) -> None:
        self._prompts = Rows([len(slate[0].prompt) for slate in slates], device)
        self._per_prompt = max(len(slate) for slate in slates)  # K
        responses: list[list[int]] = []  # (G * K) of them, some of which are empty
        for slate in slates:
            responses += [one.response for one in slate]
            responses += [[]] * (self._per_prompt - len(slate))
        self._completions = Rows([len(response) for response in responses], device)
        ids = [token for slate in slates for token in slate[0].prompt]
        self._read = len(ids)  # how many tokens the prompts have
        ids += [token for response in responses for token in response]
        self.tokens = torch.tensor(ids, device=device)
        lengths = [len(slate[0].prompt) for slate in slates for _ in range(self._per_prompt)]
        self._prompt_lengths = first = torch.tensor(lengths, device=device)  # (G * K,)
        in_completion = self._completions.places // max(1, self._completions.width)  # (N,) its number
        self.positions = torch.cat([self._prompts.positions, self._completions.positions + first[in_completion]])
        # The last token of each completion that is there; of an empty one, that of its prompt.
        of_prompt = self._prompts.ends.repeat_interleave(self._per_prompt)
        is_empty = torch.tensor([not response for response in responses], device=device)
        last = of_prompt.where(is_empty, self._completions.ends + self._read)  # (G * K,)
        self.last = last[[n * self._per_prompt + k for n, slate in enumerate(slates) for k in range(len(slate))]]
        self._masks: dict[int | None, Tensor] = {}

    def attend(self, heads: Heads, options: Options) -> Tensor:
        """(N, H * D), as of a Layout."""
        prompts, completions, dtype = self._prompts, self._completions, heads.value.dtype
        of_prompts = heads.each(lambda states: prompts.spread(states[: self._read])).for_training()  # (G, H, P, D)
        read = prompts.gather(attention.causal(of_prompts, options).to(dtype))
        if not completions.width:
            return read
        own = heads.each(lambda states: completions.spread(states[self._read :])).for_training()  # (G * K, H, C, D)
        before = self._ungrouped(attention.scores(self._grouped(own.query), of_prompts.key, options))
        scores = torch.cat([before, attention.scores(own.query, own.key, options)], dim=-1)  # (G * K, H, C, P + C)
        weights = (scores + self._mask(options.window, scores.dtype)).softmax(dim=-1)
        on_prompt, on_own = weights.split([prompts.width, completions.width], dim=-1)
        from_prompt = self._grouped(on_prompt) @ attention.alike(of_prompts.value, own.query)
        answer = self._ungrouped(from_prompt) + on_own @ attention.alike(own.value, own.query)  # (G * K, H, C, D)
        return torch.cat([read, completions.gather(answer.to(dtype))])

    def _mask(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """(G * K, 1, C, P + C): 0 where a token of a completion sees one of its prompt or of itself, or else -inf.

        The same for all layers with such a window.
        """
        if window not in self._masks:
            seen = self._seen(window)
            self._masks[window] = seen.new_zeros((), dtype=dtype).where(seen, -torch.inf)
        return self._masks[window]

    def _seen(self, window: int | None) -> Tensor:
        """(G * K, 1, C, P + C): which tokens of its prompt and of itself a token of a completion sees."""
        in_prompt = torch.arange(self._prompts.width, device=self.tokens.device)  # (P,)
        in_own = torch.arange(self._completions.width, device=self.tokens.device)  # (C,)
        first = self._prompt_lengths[:, None, None]  # (G * K, 1, 1)
        position = first + in_own[:, None]  # (G * K, C, 1)
        of_prompt = attention.sees(position, in_prompt, window) & (in_prompt < first)  # (G * K, C, P)
        of_own = attention.sees(in_own[:, None], in_own, window).expand(len(first), -1, -1)  # (G * K, C, C)
        return torch.cat([of_prompt, of_own], dim=-1)[:, None]

    def _grouped(self, states: Tensor) -> Tensor:
        """(G, H, K * C, ...) from (G * K, H, C, ...), beside the one prompt of all K."""
        _, heads, tokens, numbers = states.shape
        by_prompt = states.view(-1, self._per_prompt, heads, tokens, numbers).transpose(1, 2)
        return by_prompt.reshape(-1, heads, self._per_prompt * tokens, numbers)

    def _ungrouped(self, states: Tensor) -> Tensor:
        """The inverse of `_grouped`."""
        groups, heads, _, numbers = states.shape
        by_prompt = states.view(groups, heads, self._per_prompt, -1, numbers).transpose(1, 2)
        return by_prompt.reshape(groups * self._per_prompt, heads, -1, numbers)
