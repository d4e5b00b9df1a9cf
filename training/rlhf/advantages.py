"""From a reward model's score to the advantage of every token. Functions without a model, state or randomness.

Dims: B samples, T positions. Column t of every (B, T) tensor is about token t itself; `response` is True on the
tokens of the answer, which stand together in a row. Outside of it every result is 0.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .logprobs import k1
from .ranks import mean_and_variance


def shaped_rewards(scores: Tensor, logprobs: Tensor, reference: Tensor, response: Tensor, beta: float) -> Tensor:
    """Reward per token (B, T): -beta * (log pi - log ref) on each, and the score (B,) on the last token of the answer.

    Scores are in reward units, log-probabilities (B, T) in nats, beta in reward units per nat. The sum over an answer
    is R(x, y) of Stiennon et al. 2020, section 3.4, the reward in equation 2 of Ouyang et al. 2022. The log-ratio is
    the estimate k1 of the KL divergence (see logprobs.py); its sum over an answer may be negative.
    """
    kl = k1(logprobs, reference) * response  # (B, T)
    return scores[:, None] * last_token(response) - beta * kl


def adapted_beta(beta: float, kl: float, target: float, episodes: int, horizon: int) -> float:
    """The beta that follows one whose `episodes` came to `kl`, so that it goes to `target`; both in nats per answer.

    beta * (1 + e * episodes / horizon) with e = kl / target - 1, kept within -0.2 and 0.2: Ziegler et al. 2019,
    "Fine-Tuning Language Models from Human Preferences", section 2.2, as their code has it. `horizon` is in episodes.
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    return beta * (1 + error * episodes / horizon)


def last_token(response: Tensor) -> Tensor:
    """(B, T) bool, True on the last token of each answer: EOS, or where the length limit cut it."""
    return response & ~_ahead(response, 1)


def generalized_advantages(rewards: Tensor, values: Tensor, response: Tensor, gamma: float, lam: float) -> Tensor:
    """Advantage per token (B, T): the sum over l of (gamma * lam)^l delta_{t+l}, delta_t = R_t + gamma V_{t+1} - V_t.

    Schulman et al. 2016, "High-Dimensional Continuous Control Using Generalized Advantage Estimation", equation 16,
    for episodes that end: the value after the last token of an answer is 0. `rewards` and `values` (B, T) are in reward
    units, `values` read before each token; advantage + value is the return (TD(lambda)).

    Summed by doubling (Hillis & Steele 1986, "Data Parallel Algorithms"): when each token has the sum over `reach`
    deltas, it adds that of the token `reach` ahead. T columns take log2(T) passes, where one after another took T.
    """
    next_values = _ahead(values * response, 1)
    advantages = (rewards + gamma * next_values - values) * response  # delta so far
    reach = 1
    while reach < advantages.shape[1]:
        advantages = advantages + (gamma * lam) ** reach * _ahead(advantages, reach)
        reach *= 2
    return advantages * response  # what comes before an answer had added it up, too


def _ahead(numbers: Tensor, columns: int) -> Tensor:
    """(B, T): of each token, the number so many columns after it; 0 where there is none."""
    return F.pad(numbers[:, columns:], (0, columns))


def whitened(advantages: Sequence[Tensor], responses: Sequence[Tensor]) -> list[Tensor]:
    """The parts of a rollout, shifted and scaled together to mean 0 and variance 1 over all answer tokens of all ranks.

    Each part is (B, T) with its own B and T: how a rollout is cut must not change what a token is worth. Whitening of
    advantages is described by Huang et al. 2024, "The N+ Implementation Details of RLHF with PPO".
    """
    pairs = list(zip(advantages, responses, strict=True))
    mean, variance = mean_and_variance(torch.cat([part[response] for part, response in pairs]))  # of (N,)
    scale = (variance + 1e-8).rsqrt()
    return [(part - mean) * scale * response for part, response in pairs]
