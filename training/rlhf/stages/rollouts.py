"""Episodes and rollouts, the data of one PPO iteration: which prompts it answers, how it is cut, and what is plotted.

An episode is one answer of the policy and its reward. A rollout is a micro-batch of episodes with what every network
says about them before the update. Dims: B episodes, T positions. Column t of every (B, T) tensor is about token t
itself, and 0 outside of answers.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from .. import ranks, seeding
from ..advantages import whitened
from ..config import PPOConfig
from ..data.batching import Batch, own_micro_batches
from ..data.chat import Chat, Rendered
from ..data.records import Prompt
from ..limits import sampler_gap
from ..logprobs import k1
from ..networks.policy import Policy
from .sampling import generate
from .scoring import Answer

T = TypeVar("T")
Rewarder = Callable[[Sequence[Answer]], Tensor]  # (N,) one reward for each answer


class Episode(NamedTuple):
    """One answer as the policy sampled it."""

    position: int  # among the episodes of its iteration
    prompt_id: str
    rendered: Rendered
    sampler_logprobs: list[float]  # nats, of each answer token, as the sampler computed them
    stopped: bool  # it ended by itself, and not at the length limit
    canonical: bool  # its ids are those that its text would be tokenised to
    reward: float  # of its text, as the reward model gives it


class Rollout(NamedTuple):
    """Episodes that go through a network together, and what was known about them before the update."""

    episodes: list[Episode]
    batch: Batch
    sampler_logprobs: Tensor  # (B, T) nats, as the sampler computed them; they serve `rollout/sampler_gap` only
    logprobs: Tensor  # (B, T) nats, under the policy before the update
    entropy: Tensor  # (B, T) nats
    reference_logprobs: Tensor  # (B, T) nats, under the reference
    values: Tensor  # (B, T) reward that the critic expected before token t
    rewards: Tensor  # (B, T) reward of token t
    advantages: Tensor  # (B, T) how much better than expected token t was; whitened once the rollout is complete
    returns: Tensor  # (B, T) what the critic should have expected

    def first(self, count: int) -> "Rollout":
        """The same rollout with its first `count` episodes only."""
        episodes, batch, *tensors = self
        return Rollout(episodes[:count], Batch(*(part[:count] for part in batch)), *(part[:count] for part in tensors))


def iteration_prompts(iteration: int, prompts: Sequence[Prompt], cfg: PPOConfig) -> list[Prompt]:
    """The prompts of an iteration, one for each episode: all of them in random order before any comes again."""
    return in_turn(prompts, iteration * cfg.rollout_size, cfg.rollout_size, cfg.seed, "ppo/prompts")


def in_turn(items: Sequence[T], start: int, count: int, seed: int, stream: str) -> list[T]:
    """`count` items from `start` on of an endless row, in which all come in random order before any comes again."""
    epoch, offset = divmod(start, len(items))
    order: list[int] = []
    while len(order) < offset + count:
        order += seeding.permutation(len(items), seeding.generator(seed, stream, epoch))
        epoch += 1
    return [items[index] for index in order[offset : offset + count]]


def sample_episodes(
    policy: Policy,
    chat: Chat,
    rewarder: Rewarder,
    numbered: Sequence[tuple[int, Prompt]],
    iteration: int,
    cfg: PPOConfig,
    report_progress: Callable[[], None],
) -> list[Episode]:
    """One episode for each prompt and its position: an answer sampled from the policy, and the reward of its text."""
    prompts = [prompt for _position, prompt in numbered]
    prompt_ids = [chat.prompt_ids(prompt.messages) for prompt in prompts]
    generators = [seeding.generator(cfg.seed, "ppo", iteration, prompt.id, position) for position, prompt in numbered]
    samples = generate(policy, chat, prompt_ids, generators, cfg.max_response, cfg.cache_mb, report_progress)
    texts = [chat.decode(sample.response) for sample in samples]
    written = list(zip(prompts, texts, samples, strict=True))
    rendered = [
        chat.rendered_sample(prompt.messages, text, sample.response, sample.stopped) for prompt, text, sample in written
    ]
    answers = [
        Answer(prompt.messages, text, sample.stopped, ids)
        for (prompt, text, sample), ids in zip(written, rendered, strict=True)
    ]
    rewards = rewarder(answers).tolist()
    episodes = []
    for row, ((position, prompt), sample) in enumerate(zip(numbered, samples, strict=True)):
        episode = Episode(
            position=position,
            prompt_id=prompt.id,
            rendered=Rendered(prompt_ids[row], sample.response),
            sampler_logprobs=sample.logprobs,
            stopped=sample.stopped,
            canonical=rendered[row].response == sample.response,
            reward=rewards[row],
        )
        episodes.append(episode)
    return episodes


def split_minibatches(
    episodes: Sequence[Episode], generator: torch.Generator, cfg: PPOConfig
) -> list[list[list[Episode]]]:
    """Minibatches of random episodes, each cut into micro-batches of similar length: those of this rank."""
    order = seeding.permutation(len(episodes), generator)
    minibatches = []
    for start in range(0, len(order), cfg.minibatch_size):
        minibatch = [episodes[index] for index in order[start : start + cfg.minibatch_size]]
        cuts = own_micro_batches([episode.rendered.length for episode in minibatch], cfg.batch_tokens)
        minibatches.append([[minibatch[index] for index in cut] for cut in cuts])
    return minibatches


def flat(minibatches: list[list[Rollout]]) -> list[Rollout]:
    """All rollouts of an iteration that have episodes. One without is there for other ranks, which make a pass more."""
    return [rollout for minibatch in minibatches for rollout in minibatch if rollout.episodes]


def whiten_advantages(minibatches: list[list[Rollout]]) -> list[list[Rollout]]:
    """The rollouts with advantages of mean 0 and variance 1 over all of them together; returns are left alone."""
    rollouts = [rollout for minibatch in minibatches for rollout in minibatch]
    parts = iter(
        whitened([rollout.advantages for rollout in rollouts], [rollout.batch.response for rollout in rollouts])
    )
    return [[rollout._replace(advantages=next(parts)) for rollout in minibatch] for minibatch in minibatches]


def count_answer_tokens(rollouts: Sequence[Rollout]) -> Tensor:
    """Scalar: what the losses of a minibatch are divided by, its answer tokens on all ranks."""
    return ranks.summed(torch.stack([rollout.batch.response.sum() for rollout in rollouts]).sum())


def penalised_scores(episodes: Sequence[Episode], missing_eos_penalty: float) -> Tensor:
    """(B,) the reward of each episode, less the penalty where the answer did not end by itself; both in reward units.

    The "EOS trick" of Huang et al. 2024, "The N+ Implementation Details of RLHF with PPO", but subtracted from the
    reward instead of replacing it.
    """
    return torch.tensor(
        [episode.reward if episode.stopped else episode.reward - missing_eos_penalty for episode in episodes]
    )


def rollout_metrics(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """What to plot of an iteration. Means over episodes or answer tokens of all ranks: padding counts nowhere.

    rollout/kl is in nats per episode, the sum of k1 over its tokens; rollout/entropy in nats per token.
    value/explained_variance is 1 - Var[return - value] / Var[return].
    """
    episodes = [episode for rollout in rollouts for episode in rollout.episodes]
    logprobs, values, returns = (_answer_tokens(rollouts, name) for name in ("logprobs", "values", "returns"))
    log_ratio = k1(logprobs, _answer_tokens(rollouts, "reference_logprobs"))
    gaps = sampler_gap(_answer_tokens(rollouts, "sampler_logprobs"), logprobs)
    _mean, unexplained = ranks.mean_and_variance(returns - values)
    _mean, spread = ranks.mean_and_variance(returns)
    sums = {
        "reward": sum(episode.reward for episode in episodes),
        "kl": _sum(log_ratio),
        "stopped": sum(episode.stopped for episode in episodes),
        "entropy": _sum(_answer_tokens(rollouts, "entropy")),
        "gap": _sum(gaps),
        "noncanonical": sum(not episode.canonical for episode in episodes),
        "tokens": len(logprobs),
        "episodes": len(episodes),
    }
    totals = ranks.summed(torch.tensor(list(sums.values()), dtype=torch.float64))
    total = dict(zip(sums, totals.tolist(), strict=True))
    return {
        "rollout/reward": total["reward"] / total["episodes"],
        "rollout/kl": total["kl"] / total["episodes"],
        "rollout/length": total["tokens"] / total["episodes"],
        "rollout/stop_rate": total["stopped"] / total["episodes"],
        "rollout/entropy": total["entropy"] / total["tokens"],
        "rollout/sampler_gap": total["gap"] / total["tokens"],
        "rollout/noncanonical": total["noncanonical"],
        "value/explained_variance": 1 - (unexplained / spread.clamp(min=1e-8)).item(),
    }


def _sum(numbers: Tensor) -> float:
    return numbers.double().sum().item()


def _answer_tokens(rollouts: Sequence[Rollout], name: str) -> Tensor:
    """(N,): one of the tensors at all answer tokens of all rollouts."""
    return torch.cat([getattr(rollout, name)[rollout.batch.response] for rollout in rollouts])
