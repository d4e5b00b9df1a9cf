"""Log-probabilities of tokens, in nats and fp32, and what is computed from them: entropy, KL, masked sums.

Logits at column t speak about token t + 1. The shift by one column happens here and nowhere else: what leaves
this module in a (B, T) tensor is about token t itself, with 0 at column 0, which nothing precedes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .data.batching import Batch


def token_logprobs(policy: nn.Module, batch: Batch) -> Tensor:
    """(B, T): log-probability of each token after those before it."""
    return logprobs_of(policy(batch.tokens, batch.attention), batch.tokens)


def logprobs_of(logits: Tensor, tokens: Tensor) -> Tensor:
    """(B, T): log-probability of each token under `logits` (B, T, V)."""
    before, chosen = logits[:, :-1], tokens[:, 1:, None]
    return shift(before.gather(-1, chosen).squeeze(-1) - before.logsumexp(dim=-1))


def entropy_of(logits: Tensor) -> Tensor:
    """(B, T): nats of choice that each token had."""
    logprobs = logits[:, :-1].log_softmax(dim=-1)
    return shift(-(logprobs.exp() * logprobs).sum(dim=-1))


def exact_kl(logits: Tensor, reference: Tensor) -> Tensor:
    """(B, T): divergence from `reference` of the distribution that each token was drawn from."""
    ours, theirs = logits[:, :-1].log_softmax(dim=-1), reference[:, :-1].log_softmax(dim=-1)
    return shift((ours.exp() * (ours - theirs)).sum(dim=-1))


def shift(before: Tensor) -> Tensor:
    """(B, T): what was known before token t, read at column t - 1 of `before` (B, T - 1), is now at column t."""
    return F.pad(before, (1, 0))


def k1(logprobs: Tensor, reference: Tensor) -> Tensor:
    """KL estimate of one sample: unbiased, may be negative. The one that enters rewards."""
    return logprobs - reference


def k3(logprobs: Tensor, reference: Tensor) -> Tensor:
    """KL estimate of one sample: unbiased, never negative. The one to watch."""
    log_ratio = reference - logprobs
    return log_ratio.expm1() - log_ratio


def masked_sum(values: Tensor, counts: Tensor) -> Tensor:
    """Scalar: sum of `values` where `counts` is True, whatever stands elsewhere."""
    return torch.where(counts, values, 0.0).sum()
