"""The self-test of a policy: its logits must not depend on the cache, the padding, or later tokens.

PPO compares the sampler's log-probabilities with those of the training forward pass, and the reward model and the
critic read whole batches at once. A cache that keeps the state of a row that has left, positions that count padding, or
a network that looks ahead spoil all of it without an error. So each policy is tested on a few tokens when it is loaded.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from .. import memory
from ..data.batching import collate
from ..data.chat import Chat, Rendered
from ..exits import InvalidInput, in_one_line
from .decoding import new_decoding
from .transformer import CANNOT_RUN

if TYPE_CHECKING:
    from .policy import Policy

PROMPTS = (11, 24, 5)  # tokens: the first to leave is neither the longest nor the last
ANSWERS = (2, 6, 4)  # tokens: so rows leave one after another
# Shares of the largest distance of a logit from the mean of its row, with which rounding errors grow.
FP32_TOLERANCE = 1e-3
# In bf16, with 8 bits, dense models of the tests' architectures stay below 0.02, but a mixture of experts that sends
# one token to another expert is off by 0.2, as is a network that forgets a row. So faults are looked for in fp32; in
# bf16 the test only shows that the logits are finite and roughly the same.
BF16_TOLERANCE = 0.5
SMALLEST_SCALE = 0.01  # of logits: for an untrained model's, rounding errors do not shrink any further


class Measures(NamedTuple):
    """The largest differences between logits that should be equal."""

    cached: float  # between the sampler, with its cache and rows that leave, and the training forward pass
    padded: float  # between a sample in a batch and alone
    causal: float  # before and after later tokens were changed


# The fault that a measure above its limit shows, the worst first.
FAULTS = {  # measure -> (kind, the fault in words)
    "causal": (
        "selftest_causal",
        "a later token changes its logits for earlier ones, so it is not a causal language model",
    ),
    "padded": ("selftest_padded", "its logits for a text depend on the other texts in the batch"),
    "cached": ("selftest_cached", "its logits differ with and without the cache"),
}


def check(policy: "Policy", chat: Chat, *, trains: bool = True) -> Measures:
    """The policy's measures, in fp32. Raises InvalidInput where it fails the self-test.

    One that does not train is frozen on the way: before the test in bf16, which then may need no copy of its weights.

    Where it cannot decode in slots, it stops packing. Where rows cannot leave its cache, this sets `cache_drops_rows`
    to False, and sampling keeps them to the end.
    """
    if not all(weight.isfinite().all() for weight in policy.parameters()):  # also of tokens that the test does not use
        raise _not_finite("weights")
    try:
        with _in_fp32(policy):
            measures = _check(policy, chat, FP32_TOLERANCE)
        if not trains:
            policy.freeze()
        if policy.bf16:
            _check(policy, chat, BF16_TOLERANCE)
        return measures
    except CANNOT_RUN as error:
        if memory.ran_out(error):
            raise
        raise InvalidInput(
            f"the model cannot be run the way every stage needs, so it cannot be used here:"
            f" {type(error).__name__}: {in_one_line(error)}",
            kind="selftest_error",
        ) from error


@contextmanager
def _in_fp32(policy: "Policy") -> Iterator[None]:
    """Runs the policy's linear layers in fp32."""
    bf16, policy.bf16 = policy.bf16, False
    try:
        yield
    finally:
        policy.bf16 = bf16


@torch.no_grad()
def _check(policy: "Policy", chat: Chat, tolerance: float) -> Measures:
    samples, pad_id = _samples(chat)
    alone = [_read(policy, [sample], pad_id)[0] for sample in samples]  # (T, V) each
    together = _read(policy, samples, pad_id)
    _require_usable([*alone, *together], policy)
    scale = max((logits - logits.mean(dim=-1, keepdim=True)).abs().max().item() for logits in alone)
    limit = max(scale, SMALLEST_SCALE) * tolerance
    padded = max(_difference(ours, theirs) for ours, theirs in zip(together, alone, strict=True))
    causal = _looks_ahead(policy, samples[1], alone[1], pad_id)
    measures = Measures(_cached(policy, samples, together, pad_id, limit), padded, causal)
    for name, (kind, fault) in FAULTS.items():
        measure = getattr(measures, name)
        if not measure <= limit:
            raise InvalidInput(
                f"the model cannot be trained here: {fault} (logits differ by {measure:.2g}; the limit is {limit:.2g})",
                kind=kind,
                measured=measure,
                limit=limit,
            )
    return measures


def _samples(chat: Chat) -> tuple[list[Rendered], int]:
    """Random samples and the id that pads them, without control tokens, which some networks treat specially.

    Not padded with the tokenizer's own padding id: many untrained embeddings have zeros for it, and reading it by
    mistake would not show.
    """
    control = chat.tokenizer.added_tokens_decoder
    ordinary = torch.tensor([number for number in range(chat.vocab_size) if number not in control] or [0])
    generator = torch.Generator().manual_seed(0)
    samples = []
    for prompt, answer in zip(PROMPTS, ANSWERS, strict=True):
        prompt = max(1, min(prompt, chat.context - answer))
        ids = ordinary[torch.randint(len(ordinary), (prompt + answer,), generator=generator)].tolist()
        samples.append(Rendered(ids[:prompt], ids[prompt:]))
    return samples, int(ordinary[-1])


def _read(policy: "Policy", samples: list[Rendered], pad_id: int) -> list[Tensor]:
    """The logits of the training forward pass for each sample, (T, V) without padding."""
    batch = collate(samples, pad_id, policy.device)
    logits = policy.logits(batch.tokens, batch.attention)  # (B, T, V)
    return [row[: sample.length] for row, sample in zip(logits, samples, strict=True)]


def _require_usable(all_logits: list[Tensor], policy: "Policy") -> None:
    if (width := all_logits[0].shape[-1]) < policy.vocab_size:
        raise InvalidInput(
            f"the model's tokenizer has {policy.vocab_size} tokens, but its head has only {width}: use"
            " the tokenizer it was trained with",
            kind="tokenizer_larger",
            tokens=policy.vocab_size,
            embedding=width,
        )
    if not all(logits.isfinite().all() for logits in all_logits):
        raise _not_finite("logits")


def _not_finite(what: str) -> InvalidInput:
    return InvalidInput(
        f"the model's {what} are not finite: its weights are damaged or too large for this dtype",
        kind="selftest_not_finite",
    )


def _cached(policy: "Policy", samples: list[Rendered], together: list[Tensor], pad_id: int, limit: float) -> float:
    """The sampler's difference in slots, or else in batches whose rows leave, or else in batches whose rows stay."""
    if policy.trunk.packs:
        if (gap := _gap_or_infinity(policy, samples, together, pad_id)) <= limit:
            return gap
        policy.trunk.stop_packing()
    if (gap := _gap_or_infinity(policy, samples, together, pad_id)) <= limit:
        return gap
    policy.cache_drops_rows = False
    return _sampler_gap(policy, samples, together, pad_id)


def _gap_or_infinity(policy: "Policy", samples: list[Rendered], together: list[Tensor], pad_id: int) -> float:
    try:
        return _sampler_gap(policy, samples, together, pad_id)
    except CANNOT_RUN as error:
        if memory.ran_out(error):
            raise
        return float("inf")


def _sampler_gap(policy: "Policy", samples: list[Rendered], together: list[Tensor], pad_id: int) -> float:
    decoding = new_decoding(policy.for_sampling(), len(samples), max(sample.length for sample in samples), pad_id)
    decoding.join([sample.prompt for sample in samples])
    rows = list(range(len(samples)))  # of the samples that go on
    gaps = []
    for step in range(max(ANSWERS) + 1):
        logits = decoding.next_logits()  # (A, V)
        for ours, row in zip(logits, rows, strict=True):
            gaps.append(_difference(ours, together[row][len(samples[row].prompt) + step - 1]))
        going = [index for index, row in enumerate(rows) if step + 1 < len(samples[row].response)]
        if not going:
            break
        chosen = torch.tensor([samples[row].response[step] for row in rows], device=logits.device)
        decoding.append(chosen, torch.tensor(going, device=logits.device))
        rows = [rows[index] for index in going]
    return max(gaps)


def _looks_ahead(policy: "Policy", sample: Rendered, before: Tensor, pad_id: int) -> float:
    """How far logits move when later tokens are changed."""
    kept = len(sample.prompt) // 2
    changed = sample.prompt[:kept] + sample.prompt[kept:][::-1]
    (after,) = _read(policy, [Rendered(changed, sample.response[::-1])], pad_id)
    return _difference(after[:kept], before[:kept])


def _difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest absolute difference; infinite where one is NaN."""
    return (ours - theirs).abs().nan_to_num(nan=float("inf")).max().item()
