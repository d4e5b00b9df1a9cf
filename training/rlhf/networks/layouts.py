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

    A slate has K completions of one prompt, so its prompt is computed once instead of K times.
    """

    def __init__(self, rendered: Sequence[Rendered], device: torch.device | str) -> None:
        groups: dict[tuple[int, ...], list[int]] = {}
        for row, one in enumerate(rendered):
            groups.setdefault(tuple(one.prompt), []).append(row)
        self._prompts = Rows([len(prompt) for prompt in groups], device)
        self._per_prompt = max(len(rows) for rows in groups.values())  # K
        order = [row for rows in groups.values() for row in [*rows, *[-1] * (self._per_prompt - len(rows))]]
        lengths = [len(rendered[row].response) if row >= 0 else 0 for row in order]
        self._completions = Rows(lengths, device)  # (G * K) of them, some of which are empty
        ids = [token for prompt in groups for token in prompt]
        ids += [token for row in order if row >= 0 for token in rendered[row].response]
        self.tokens = torch.tensor(ids, device=device)
        first = torch.tensor([len(prompt) for prompt in groups for _ in range(self._per_prompt)], device=device)
        self._prompt_lengths = first  # (G * K,)
        in_completion = self._completions.places // max(1, self._completions.width)  # (N,) its number
        self.positions = torch.cat([self._prompts.positions, self._completions.positions + first[in_completion]])
        self.last = self._last(order, lengths)

    @property
    def _read(self) -> int:
        """How many tokens the prompts have."""
        return len(self._prompts.places)

    def _last(self, order: Sequence[int], lengths: Sequence[int]) -> Tensor:
        """(S,) the last token of each sequence in the row; of an empty completion, that of its prompt."""
        last = self._completions.ends + self._read
        of_prompt = self._prompts.ends.repeat_interleave(self._per_prompt)
        last = torch.where(torch.tensor(lengths, device=last.device) > 0, last, of_prompt)  # (G * K,)
        rows = torch.tensor(order, device=last.device)
        return last[rows.argsort()[(rows < 0).sum() :]]

    def attend(self, layer: int, heads: Heads, options: Options) -> Tensor:
        """See Layout."""
        prompts, completions, dtype = self._prompts, self._completions, heads.value.dtype
        of_prompts = heads.each(lambda states: prompts.spread(states[: self._read])).for_training()  # (G, H, P, D)
        read = prompts.gather(attention.causal(of_prompts, options).to(dtype))
        if not completions.width:
            return read
        own = heads.each(lambda states: completions.spread(states[self._read :])).for_training()  # (G * K, H, C, D)
        before = self._ungrouped(attention.scores(self._grouped(own.query), of_prompts.key, options))
        scores = torch.cat([before, attention.scores(own.query, own.key, options)], dim=-1)  # (G * K, H, C, P + C)
        weights = scores.where(self._seen(options.window), -torch.inf).softmax(dim=-1)
        on_prompt, on_own = weights.split([prompts.width, completions.width], dim=-1)
        from_prompt = self._grouped(on_prompt) @ attention.alike(of_prompts.value, own.query)
        answer = self._ungrouped(from_prompt) + on_own @ attention.alike(own.value, own.query)  # (G * K, H, C, D)
        return torch.cat([read, completions.gather(answer.to(dtype))])

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
