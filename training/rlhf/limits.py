"""Limits beyond which numbers are not believed: a stage ends there, with a sentence, and nothing goes on from them."""

import torch
from torch import Tensor

from .exits import Diverged

# How far on average the probability that the sampler drew a token with may be from the one that the training forward
# gives it. Rounding alone stays far below; beyond it PPO learns from answers that its policy did not write.
FP32_SAMPLER_GAP, BF16_SAMPLER_GAP = 0.1, 0.3


def is_beyond(kl: float, limit: float) -> bool:
    """Whether a policy has gone too far from its reference. A divergence that is no number is beyond every limit."""
    return not kl <= limit


def require_finite(numbers: Tensor, what: str, kind: str) -> Tensor:
    """The numbers, every one of which is finite. Raises Diverged otherwise."""
    if not torch.isfinite(numbers).all():
        raise Diverged(f"{what} are not finite: the model's weights are damaged or training has spoilt them", kind=kind)
    return numbers


def gap_of(drawn: Tensor, read: Tensor) -> float:
    """How far the log-probabilities (N,) that the sampler noted are from those of the training forward, as a ratio."""
    return (read - drawn).abs().expm1().mean().item()


def refuse_sampler_gap(gap: float, *, bf16: bool) -> None:
    """Raises Diverged where the sampler and the training forward do not speak of the same policy."""
    limit = BF16_SAMPLER_GAP if bf16 else FP32_SAMPLER_GAP
    if not gap <= limit:
        advice = "set dtype to fp32" if bf16 else "have the base model examined again, and choose another one"
        raise Diverged(
            f"what the policy samples is not what it computes when it learns (rollout/sampler_gap is {gap:.2g}, at most"
            f" {limit:g}): {advice}",
            kind="sampler_gap",
            measured=gap,
            limit=limit,
        )
