"""The two updates of PPO, that of the policy and that of the critic, each on one minibatch of rollouts."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .. import ranks
from ..data.chat import Rendered
from ..logprobs import k3, masked_sum
from ..networks.policy import Policy, token_logprobs
from ..networks.scalar_model import ScalarModel
from .learner import Learner
from .rollouts import Rollout, count_answer_tokens
from .sft import add_gradient


class Mix(NamedTuple):
    """Supervised learning that is mixed into a step of the policy."""

    batch: Sequence[Rendered]  # demonstrations
    coefficient: float  # gamma of PPO-ptx
    pad_id: int
    batch_tokens: int


def policy_step(
    policy: Policy,
    learner: Learner,
    minibatch: list[Rollout],
    learning_rate: float,
    clip: float,
    mix: Mix | None = None,
) -> dict[str, float]:
    """One update on a minibatch. Its losses are means over all its answer tokens on all ranks, however it is cut.

    With a mix, the gradient is that of PPO plus `coefficient` times that of the demonstrations' loss, a mean over their
    answer tokens in nats: equation 2 of Ouyang et al. 2022, whose second term is over text of the pretraining.
    Raises Diverged where the gradient was not finite too often in a row.
    """
    answer_tokens = count_answer_tokens(minibatch)
    loss, kl, clipped = torch.zeros(3, device=answer_tokens.device)
    for rollout in minibatch:
        response = rollout.batch.response
        logprobs = token_logprobs(policy, rollout.batch)  # (B, T)
        log_ratio = logprobs - rollout.logprobs  # (B, T), 0 on answers before any update
        part = masked_sum(policy_loss(log_ratio, rollout.advantages, clip), response) / answer_tokens
        part.backward()
        with torch.no_grad():
            loss += part
            kl += masked_sum(k3(rollout.logprobs, logprobs), response) / answer_tokens
            clipped += (((log_ratio.exp() - 1).abs() > clip) & response).sum() / answer_tokens
    mixed = {}
    if mix:
        nats = add_gradient(policy, mix.batch, mix.pad_id, mix.batch_tokens, weight=mix.coefficient)
        mixed = {"policy/ptx_loss": ranks.summed(nats).item()}
    norm = learner.step(learning_rate)
    loss, kl, clipped = ranks.summed(torch.stack([loss, kl, clipped])).tolist()
    report = {"policy/loss": loss, "policy/approx_kl": kl, "policy/clip_fraction": clipped, "policy/grad_norm": norm}
    return report | mixed


def policy_loss(log_ratio: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """(B, T): the clipped surrogate objective, negated: Schulman et al. 2017, equation 7.

    `log_ratio` (B, T) is the log of new over old probability in nats; `clip` is the paper's epsilon.
    """
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - clip, 1 + clip)
    # Pessimistic on both sides: clipping may only ever lower the objective.
    return -torch.minimum(ratio * advantages, clipped * advantages)


def value_step(
    critic: ScalarModel, learner: Learner, minibatch: list[Rollout], learning_rate: float, clip: float
) -> dict[str, float]:
    """One update of the critic on a minibatch, towards the returns. Raises Diverged, as `policy_step` does."""
    answer_tokens = count_answer_tokens(minibatch)
    loss = torch.zeros((), device=answer_tokens.device)
    for rollout in minibatch:
        errors = value_loss(critic.values(rollout.batch), rollout.values, rollout.returns, clip)  # (B, T)
        part = masked_sum(errors, rollout.batch.response) / answer_tokens
        part.backward()
        loss += part.detach()
    learner.step(learning_rate)
    return {"value/loss": ranks.summed(loss).item()}


def value_loss(values: Tensor, before: Tensor, returns: Tensor, clip: float) -> Tensor:
    """(B, T): half the squared error, or that of the value kept within `clip` of what it was `before`, if larger.

    All in reward units. The value clipping of PPO's implementations: see Engstrom et al. 2020, "Implementation Matters
    in Deep Policy Gradients".
    """
    clipped = before + (values - before).clamp(-clip, clip)
    return torch.maximum((values - returns).square(), (clipped - returns).square()) / 2
