"""What a policy did and what it earned: the material of one PPO iteration, measured before any update.

An episode is an answer and its reward. A rollout is a batch of episodes after one look through the training forward:
the log-probabilities that the sampler noted are used for nothing but `rollout/sampler_gap`, because the ratio of new
to old probability has to be exactly 1 where nothing was learnt yet.

Dims: B episodes, T positions. Column t of every (B, T) tensor is about token t itself, and 0 outside of answers.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .. import seeding
from ..advantages import generalized_advantages, shaped_rewards, whitened
from ..config import PPOConfig
from ..data.batching import Batch, collate, micro_batches
from ..data.chat import Chat, Rendered
from ..data.records import Prompt
from ..limits import gap_of, require_finite
from ..logprobs import entropy_of, k1, logprobs_of, token_logprobs
from ..networks.networks import Policy, ScalarModel, device
from .sampling import generate
from .scoring import Answer

Rewarder = Callable[[Sequence[Answer]], Tensor]  # (N,) one reward for each answer


class Episode(NamedTuple):
    """One answer as the policy drew it."""

    place: int  # among the episodes of its iteration
    prompt_id: str
    rendered: Rendered
    drawn: list[float]  # nats, of each answer token, as the sampler noted them
    stopped: bool
    canonical: bool  # its ids are those that its text would be given
    reward: float  # of its text


class Rollout(NamedTuple):
    """Episodes that go through a network together, and all that was known of them before the update."""

    episodes: list[Episode]
    batch: Batch
    drawn: Tensor  # (B, T) nats, as the sampler noted them
    logprobs: Tensor  # (B, T) nats, under the policy before the update
    entropy: Tensor  # (B, T) nats
    reference: Tensor  # (B, T) nats, under the reference
    values: Tensor  # (B, T) reward that the critic expected before token t
    rewards: Tensor  # (B, T) what token t earned
    advantages: Tensor  # (B, T) how much better than expected token t was; whitened once the rollout is complete
    returns: Tensor  # (B, T) what the critic should have expected

    def first(self, count: int) -> "Rollout":
        """The same with so many episodes at most."""
        episodes, batch, *tensors = self
        return Rollout(episodes[:count], Batch(*(part[:count] for part in batch)), *(part[:count] for part in tensors))


def prompts_of(iteration: int, prompts: Sequence[Prompt], cfg: PPOConfig) -> list[Prompt]:
    """The prompts of an iteration, one for each episode: all get their turn, in random order, before any again."""
    first_epoch, offset = divmod(iteration * cfg.rollout_size, len(prompts))
    turns: list[int] = []
    epoch = first_epoch
    while len(turns) < offset + cfg.rollout_size:
        turns += seeding.permutation(len(prompts), seeding.generator(cfg.seed, "ppo/prompts", epoch))
        epoch += 1
    return [prompts[turn] for turn in turns[offset : offset + cfg.rollout_size]]


def play(
    policy: Policy,
    chat: Chat,
    rewarder: Rewarder,
    prompts: Sequence[Prompt],
    iteration: int,
    cfg: PPOConfig,
    touch: Callable[[], None],
) -> list[Episode]:
    """One episode for each prompt."""
    draws = [seeding.generator(cfg.seed, "ppo", iteration, prompt.id, place) for place, prompt in enumerate(prompts)]
    prompt_ids = [chat.prompt_ids(prompt.messages) for prompt in prompts]
    samples = generate(policy, chat, prompt_ids, draws, cfg.max_response, cfg.batch_tokens, touch)
    answers = [
        Answer(prompt.messages, chat.decode(sample.response), sample.stopped)
        for prompt, sample in zip(prompts, samples, strict=True)
    ]
    return [
        Episode(
            place,
            prompt.id,
            Rendered(ids, sample.response),
            sample.logprobs,
            sample.stopped,
            canonical=chat.response_ids(*answer) == sample.response,
            reward=reward,
        )
        for place, (prompt, ids, sample, answer, reward) in enumerate(
            zip(prompts, prompt_ids, samples, answers, rewarder(answers).tolist(), strict=True)
        )
    ]


def split(episodes: Sequence[Episode], draw: torch.Generator, cfg: PPOConfig) -> list[list[list[Episode]]]:
    """Minibatches of random episodes, each cut into micro-batches of similar length: fixed before anything is read."""
    order = seeding.permutation(len(episodes), draw)
    minibatches = []
    for start in range(0, len(order), cfg.minibatch_size):
        minibatch = [episodes[index] for index in order[start : start + cfg.minibatch_size]]
        cuts = micro_batches([episode.rendered.length for episode in minibatch], cfg.batch_tokens)
        minibatches.append([[minibatch[index] for index in cut] for cut in cuts])
    return minibatches


@torch.no_grad()
def look(
    policy: nn.Module, reference: Policy, critic: ScalarModel, episodes: list[Episode], pad_id: int, cfg: PPOConfig
) -> Rollout:
    """Read the episodes with every network, and work out rewards and advantages (not whitened yet)."""
    batch = collate([episode.rendered for episode in episodes], pad_id, device())
    tokens, attention, response = batch
    scores = [episode.reward - cfg.missing_eos_penalty * (not episode.stopped) for episode in episodes]
    logits = policy(tokens, attention)  # (B, T, V)
    logprobs = logprobs_of(logits, tokens) * response
    reference_logprobs = logprobs_of(reference(tokens, attention), tokens) * response
    values = critic.values(tokens, attention) * response
    require_finite(logprobs[response], "the policy's logits", "logits_not_finite")
    require_finite(reference_logprobs[response], "the reference's logits", "reference_not_finite")
    require_finite(values[response], "the critic's values", "values_not_finite")
    rewards = shaped_rewards(torch.tensor(scores, device=device()), logprobs, reference_logprobs, response, cfg.beta)
    advantages = generalized_advantages(rewards, values, response, cfg.gamma, cfg.lam)
    return Rollout(
        episodes=episodes,
        batch=batch,
        drawn=_place(episodes, response),
        logprobs=logprobs,
        entropy=entropy_of(logits) * response,
        reference=reference_logprobs,
        values=values,
        rewards=rewards,
        advantages=advantages,
        returns=advantages + values,
    )


@torch.no_grad()
def look_again(policy: Policy, critic: ScalarModel, batch: Batch) -> dict[str, Tensor]:
    """What policy and critic say of the answers of a rollout after the update: (B, T) each."""
    tokens, attention, response = batch
    return {
        "new_logprobs": token_logprobs(policy, batch) * response,
        "new_values": critic.values(tokens, attention) * response,
    }


def whiten(minibatches: list[list[Rollout]]) -> list[list[Rollout]]:
    """The rollouts with advantages that have mean 0 and variance 1 over all of them together."""
    rollouts = flat(minibatches)
    parts = iter(whitened([one.advantages for one in rollouts], [one.batch.response for one in rollouts]))
    return [[rollout._replace(advantages=next(parts)) for rollout in minibatch] for minibatch in minibatches]


def flat(minibatches: list[list[Rollout]]) -> list[Rollout]:
    """All rollouts of an iteration."""
    return [rollout for minibatch in minibatches for rollout in minibatch]


def measure(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """What to plot of an iteration. Means over episodes or over answer tokens: padding counts nowhere."""
    episodes = [episode for rollout in rollouts for episode in rollout.episodes]
    logprobs, values, returns = (_answers(rollouts, name) for name in ("logprobs", "values", "returns"))
    log_ratio = k1(logprobs, _answers(rollouts, "reference"))
    unexplained = (returns - values).var(correction=0) / returns.var(correction=0).clamp(min=1e-8)
    return {
        "rollout/reward": sum(episode.reward for episode in episodes) / len(episodes),
        "rollout/kl": log_ratio.sum().item() / len(episodes),
        "rollout/length": len(logprobs) / len(episodes),
        "rollout/stop_rate": sum(episode.stopped for episode in episodes) / len(episodes),
        "rollout/entropy": _answers(rollouts, "entropy").mean().item(),
        "rollout/sampler_gap": gap_of(_answers(rollouts, "drawn"), logprobs),
        "rollout/noncanonical": sum(not episode.canonical for episode in episodes),
        "value/explained_variance": 1 - unexplained.item(),
    }


def _answers(rollouts: Sequence[Rollout], name: str) -> Tensor:
    """(N,): one of the tensors at all answer tokens."""
    return torch.cat([getattr(rollout, name)[rollout.batch.response] for rollout in rollouts])


def _place(episodes: Sequence[Episode], response: Tensor) -> Tensor:
    """(B, T): what the sampler noted, at the columns of the answers."""
    drawn = torch.zeros(response.shape, device=response.device)
    drawn[response] = torch.tensor([nats for episode in episodes for nats in episode.drawn], device=response.device)
    return drawn
