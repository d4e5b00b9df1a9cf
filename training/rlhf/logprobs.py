"""Log-probabilities of tokens, in nats and fp32, and what is computed from them: entropy, KL, masked sums.

Pure functions of tensors. Dims: B samples, T positions, V vocabulary. Logits at column t are about token t + 1. The
shift by one column happens here and nowhere else: what leaves this module in a (B, T) tensor is about token t itself,
with 0 at column 0, which nothing precedes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def logprobs_of(logits: Tensor, tokens: Tensor) -> Tensor:
    """(B, T) nats: log-probability of each of `tokens` (B, T) under `logits` (B, T, V)."""
    before, chosen = logits[:, :-1], tokens[:, 1:, None]
    return shift(before.gather(-1, chosen).squeeze(-1) - before.logsumexp(dim=-1))


def entropy_of(logits: Tensor) -> Tensor:
    """(B, T) nats: Shannon entropy of the distribution that each token was drawn from."""
    logprobs = logits[:, :-1].log_softmax(dim=-1)
    return shift(-(logprobs.exp() * logprobs).sum(dim=-1))


def exact_kl(logits: Tensor, reference: Tensor) -> Tensor:
    """(B, T) nats: KL(policy, reference), summed over the vocabulary, at each token; both are logits (B, T, V)."""
    ours, theirs = logits[:, :-1].log_softmax(dim=-1), reference[:, :-1].log_softmax(dim=-1)
    return shift((ours.exp() * (ours - theirs)).sum(dim=-1))


def shift(before: Tensor) -> Tensor:
    """(B, T): what was known before token t, read at column t - 1 of `before` (B, T - 1), is now at column t."""
    return F.pad(before, (1, 0))


def k1(logprobs: Tensor, reference: Tensor) -> Tensor:
    """Nats: the estimate k1 of KL(policy, reference) at a token that the policy drew, as in `shaped_rewards`.

    Unbiased, may be negative. Schulman 2020, "Approximating KL divergence".
    """
    return logprobs - reference


def k3(logprobs: Tensor, reference: Tensor) -> Tensor:
    """Nats: the estimate k3 of KL(policy, reference) at a token that the policy drew; it is only plotted.

    Unbiased, never negative. Schulman 2020, "Approximating KL divergence".
    """
    log_ratio = reference - logprobs
    return log_ratio.expm1() - log_ratio


def masked_sum(values: Tensor, counts: Tensor) -> Tensor:
    """Scalar: sum of `values` where the mask `counts` is True, even if what is masked is not finite."""
    return torch.where(counts, values, 0.0).sum()
