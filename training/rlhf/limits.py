"""Limits beyond which a stage does not trust its numbers and ends with Diverged."""

import torch
from torch import Tensor

from .exits import Diverged

# How far apart the probabilities that the sampler and the training forward pass give to a token may be on average.
# Rounding alone stays far below; beyond it PPO learns from answers that its policy did not write.
FP32_SAMPLER_GAP, BF16_SAMPLER_GAP = 0.1, 0.3


def is_beyond(kl: float, limit: float) -> bool:
    """Whether a divergence in nats is beyond the limit. NaN is beyond every limit."""
    return not kl <= limit


def require_finite(numbers: Tensor, what: str, kind: str) -> Tensor:
    """The numbers, all finite. Raises Diverged, with `what` they are and its `kind`, where one is not."""
    if not torch.isfinite(numbers).all():
        raise Diverged(f"{what} are not finite: the model's weights are damaged or training has diverged", kind=kind)
    return numbers


def sampler_gap(sampler_logprobs: Tensor, training_logprobs: Tensor) -> Tensor:
    """(N,): exp|difference| - 1 of the log-probabilities, in nats, that both give to the same token."""
    return (training_logprobs - sampler_logprobs).abs().expm1()


def refuse_sampler_gap(gap: float, *, bf16: bool) -> None:
    """Raises Diverged where sampler and training forward pass do not compute the same policy."""
    limit = BF16_SAMPLER_GAP if bf16 else FP32_SAMPLER_GAP
    if not gap <= limit:
        advice = "set dtype to fp32" if bf16 else "check the base model again, or choose another one"
        raise Diverged(
            f"token probabilities differ between sampling and training (rollout/sampler_gap is {gap:.2g}; the limit is"
            f" {limit:g}): {advice}",
            kind="sampler_gap",
            measured=gap,
            limit=limit,
        )
