"""Log-probabilities of tokens, in nats and fp32, and what is computed from them: entropy, KL, masked sums.

Pure functions of tensors. Dims: B samples, T positions, A answer tokens, V vocabulary. A row of logits is what its
token was drawn from; a network's logits at column t are about token t + 1, and `shift` is how that is told apart.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# What is read off logits (A, V) and something given of each token (A, ...): (A,), or (A, M) for M numbers a token.
Read = Callable[[Tensor, Tensor], Tensor]

CHUNK_BYTES = 256_000_000  # of fp32 logits at a time


def logprobs_of(logits: Tensor, tokens: Tensor) -> Tensor:
    """(A,) nats: log-probability of each of `tokens` (A,) under `logits` (A, V)."""
    return -F.cross_entropy(logits, tokens, reduction="none")


def logprobs_and_entropy(logits: Tensor, tokens: Tensor) -> Tensor:
    """(A, 2) nats: log-probability of each token, and the entropy of the distribution that it was drawn from."""
    logprobs = logits.log_softmax(dim=-1)
    chosen = logprobs.gather(1, tokens[:, None]).squeeze(1)  # the very bits of `logprobs_of`
    return torch.stack([chosen, _entropy(logprobs)], dim=-1)


def entropy_of(logits: Tensor) -> Tensor:
    """(A,) nats: Shannon entropy of each distribution in `logits` (A, V)."""
    return _entropy(logits.log_softmax(dim=-1))


def _entropy(logprobs: Tensor) -> Tensor:
    return -(logprobs.exp() * logprobs).sum(dim=-1)


def exact_kl(logits: Tensor, reference: Tensor) -> Tensor:
    """(A,) nats: KL(policy, reference), summed over the vocabulary, at each token; both are logits (A, V)."""
    ours, theirs = logits.log_softmax(dim=-1), reference.log_softmax(dim=-1)
    return (ours.exp() * (ours - theirs)).sum(dim=-1)


def in_chunks(read: Read, head: Callable[[Tensor], Tensor], states: Tensor, given: Tensor, vocabulary: int) -> Tensor:
    """What `read` says of the logits that `head` makes of `states` (A, width), and of what is `given` (A, ...) there.

    The logits of one chunk are there at a time, and are computed again for the gradient: Chen et al. 2016, "Training
    Deep Nets with Sublinear Memory Cost". Few tokens are one chunk, whose logits are kept.
    """
    size = max(1, CHUNK_BYTES // (4 * vocabulary))

    def read_chunk(states: Tensor, given: Tensor) -> Tensor:
        return read(head(states), given)

    if len(given) <= size:
        return read_chunk(states, given)
    chunks = zip(states.split(size), given.split(size), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([read_chunk(*chunk) for chunk in chunks])
    return torch.cat([checkpoint(read_chunk, *chunk, use_reentrant=False) for chunk in chunks])


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
