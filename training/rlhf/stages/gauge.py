"""The gauge of PPO: what a judge says of the policy whom it cannot please on purpose, and when that says to stop.

A reward that is climbed ends up too high: from some distance on it rises while people like the answers less (Gao et al.
2022, "Scaling Laws for Reward Model Overoptimization"). So another reward model watches: it was trained on rankings
that the climbed one never saw, and is nobody's reward. Every few iterations the policy answers the same prompts, each
by the same random numbers, so that two measurements differ by what the policy has learnt and hardly by luck.

Before the first iteration stands a trial. The policy gives several answers to some prompts, and the reward model picks
the best of each: what PPO would do at its best for little KL. Where the watcher does not like those better than the
others, the reward has nothing to teach, and PPO does not begin.

PPO goes as far as it helps and no further. It stops once some measurements in a row brought no certain improvement on
the last certain one: the mean of the differences, prompt by prompt, has to be above `CERTAIN` of its standard errors.
Of all that was measured, the policy with the highest mean is kept; but while nothing was a certain improvement on the
policy as it began, that one is. Why it does not wait until the watcher turns down, and what this rule does to good and
bad runs, is in docs/learning.md.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count, islice
from statistics import fmean, stdev
from typing import Any, NamedTuple

import torch

from .. import ranks, seeding, sharding
from ..config import TRIAL_PROMPTS, PPOConfig
from ..data.batching import collate, micro_batches
from ..data.chat import Chat, Rendered
from ..data.records import Prompt
from ..exits import InvalidInput
from ..limits import require_finite
from ..logprobs import k1
from ..networks.policy import Policy, token_logprobs
from ..run.checkpoint import Checkpoint, Tensors, copied_to_cpu, module_tensors, restore_module, restore_tensors
from .evaluation import win
from .rollouts import Rewarder
from .sampling import SampledAnswer, generate
from .scoring import Scorer

CERTAIN = 2.0  # standard errors


class Measured(NamedTuple):
    """The policy after `step` iterations."""

    step: int
    scores: list[float]  # the watcher's, in its reward units: for each prompt the mean over its answers

    @property
    def mean(self) -> float:
        return fmean(self.scores)


class Watch:
    """The rule, for one measurement after the other."""

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self.best: Measured | None = None
        self.certain: Measured | None = None  # the last that was certainly better than the one before it
        self.since = 0  # measurements in a row that were not certainly better than that
        self.has_improved = False  # on the first one, certainly

    def see(self, now: Measured) -> bool:
        """Take in a measurement; whether it is the best so far. The first is, as long as none was certainly better."""
        if self.best is None or self.certain is None:
            self.best = self.certain = now
            return True
        if is_above(now.scores, self.certain.scores):
            self.certain, self.since, self.has_improved = now, 0, True
        else:
            self.since += 1
        is_best = self.has_improved and now.mean > self.best.mean
        if is_best:
            self.best = now
        return is_best

    @property
    def has_levelled_off(self) -> bool:
        """Whether nothing has become better for too long."""
        return self.since >= self._patience

    def state(self) -> dict[str, Any]:
        """All of it, for JSON."""
        measured = {"best": self.best, "certain": self.certain}
        own = {"since": self.since, "has_improved": self.has_improved}
        return {name: one and one._asdict() for name, one in measured.items()} | own

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self.best, self.certain = (state[name] and Measured(**state[name]) for name in ("best", "certain"))
        self.since = state["since"]
        self.has_improved = state.get("has_improved", True)  # older checkpoints kept the highest mean in any case


def is_above(scores: Sequence[float], before: Sequence[float]) -> bool:
    """Whether the mean of `scores` is above that of `before` by more than chance; both are of the same prompts.

    One prompt tells nothing about chance, so with it nothing is above anything.
    """
    gains = [now - then for now, then in zip(scores, before, strict=True)]
    return len(gains) > 1 and fmean(gains) > CERTAIN * standard_error(gains)


def standard_error(numbers: Sequence[float]) -> float:
    """Of the mean of two numbers or more."""
    return stdev(numbers) / math.sqrt(len(numbers))


def picked_wins(rewards: Sequence[float], scores: Sequence[float]) -> float:
    """How often the watcher's score of the answer with the highest reward is above those of the other answers.

    One half is what picking at random would come to.
    """
    picked = max(range(len(rewards)), key=lambda index: rewards[index])
    others = [score for index, score in enumerate(scores) if index != picked]
    return fmean(win(scores[picked], other) for other in others)


class Gauge:
    """Measures a policy while it trains, and keeps it as it was when the watcher liked it best."""

    def __init__(
        self,
        policy: Policy,
        reference: Policy,
        chat: Chat,
        rewarder: Rewarder,
        watcher: Scorer,
        prompts: Sequence[Prompt],
        cfg: PPOConfig,
        report_progress: Callable[[], None],
    ) -> None:
        self._policy, self._reference, self._chat = policy, reference, chat
        self._rewarder, self._watcher = rewarder, watcher
        self._asked = measured_prompts(prompts, cfg)
        self._cfg, self._report_progress = cfg, report_progress
        self._watch = Watch(cfg.gauge_patience)
        self._kept = copied_to_cpu(policy)

    def is_due(self, step: int) -> bool:
        """Whether the policy is measured after `step` iterations."""
        return step % self._cfg.gauge_every == 0 or step == self._cfg.iterations

    def measure(self, step: int) -> dict[str, float]:
        """Measure the policy after `step` iterations; what to plot, means over the answers.

        gauge/watcher and gauge/reward are in their models' reward units, gauge/kl in nats per answer. Raises Diverged
        where a number is not finite.
        """
        answers = ranks.spread(self._asked, partial(self._sample, stream="gauge"))
        rewards, scores = self._rewards(answers), self._scores(answers)
        nats = ranks.spread(answers, self._nats)
        if self._watch.see(Measured(step, by_prompt(answers, scores))):
            restore_tensors(self._kept, module_tensors(self._policy))
        assert self._watch.best
        return {
            "gauge/watcher": fmean(scores),
            "gauge/reward": fmean(rewards),
            "gauge/kl": fmean(nats),
            "gauge/length": fmean(len(one.sampled.response) for one in answers),
            "gauge/stop_rate": fmean(one.sampled.stopped for one in answers),
            "gauge/best_step": self._watch.best.step,
        }

    def try_reward(self) -> dict[str, float]:
        """What to plot of the trial. Raises InvalidInput where the watcher does not prefer what the reward picks."""
        count_each = self._cfg.trial_answers
        prompts = list({prompt.id: prompt for prompt, _number in self._asked}.values())[:TRIAL_PROMPTS]
        if count_each < 2 or len(prompts) < 2:  # which could not say anything
            return {}
        wanted = [(prompt, number) for prompt in prompts for number in range(count_each)]
        answers = ranks.spread(wanted, partial(self._sample, stream="gauge/trial"))
        rewards, scores = self._rewards(answers), self._scores(answers)
        starts = range(0, len(answers), count_each)
        wins = [picked_wins(rewards[at : at + count_each], scores[at : at + count_each]) for at in starts]
        rate, error = fmean(wins), standard_error(wins)
        if not rate - CERTAIN * error > 0.5:
            raise InvalidInput(
                f"the independent judge does not prefer what the reward model picks out of {count_each} answers:"
                f" it wins {rate:.0%} of the comparisons, give or take {CERTAIN * error:.0%}; PPO would learn"
                " nothing that people like: collect more rankings, or set trial_answers to 0 to train all the same",
                kind="reward_not_confirmed",
                field="trial_answers",
                win_rate=rate,
                error=error,
            )
        return {"gauge/trial_win_rate": rate}

    @property
    def stops(self) -> bool:
        """Whether PPO is to end here."""
        return self._cfg.early_stopping == "on" and self._watch.has_levelled_off

    def restore_best(self) -> None:
        """Give the policy the weights that the watcher liked best, unless the run is not to be steered by it."""
        if self._cfg.early_stopping == "on" and self._watch.best:
            restore_module(self._policy, self._kept)

    def tensors(self) -> dict[str, Tensors]:
        """What a checkpoint has to hold, by group."""
        return {"best": self._kept}

    def state(self) -> dict[str, Any]:
        """The rest of it, for JSON."""
        return {"gauge": self._watch.state()}

    def restore(self, saved: Checkpoint) -> None:
        """Continue from a checkpoint."""
        self._watch.restore(saved.state()["gauge"])
        restore_tensors(self._kept, saved.tensors("best"))

    def _rewards(self, answers: Sequence[SampledAnswer]) -> list[float]:
        return ranks.spread(answers, lambda share: self._rewarder([one.answer for one in share]).tolist())

    def _scores(self, answers: Sequence[SampledAnswer]) -> list[float]:
        scores: list[float] = self._watcher.scores_by_all_ranks([one.answer for one in answers]).tolist()
        return scores

    def _sample(self, asked: Sequence[tuple[Prompt, int]], stream: str) -> list[SampledAnswer]:
        cfg, chat = self._cfg, self._chat
        ids = [chat.prompt_ids(prompt.messages) for prompt, _number in asked]
        generators = [seeding.generator(cfg.seed, stream, 0, prompt.id, number) for prompt, number in asked]
        sampled = generate(self._policy, chat, ids, generators, cfg.max_response, cfg.cache_mb, self._report_progress)
        return [
            SampledAnswer("policy", prompt, number, one, chat.decode(one.response))
            for (prompt, number), one in zip(asked, sampled, strict=True)
        ]

    @torch.no_grad()
    def _nats(self, answers: Sequence[SampledAnswer]) -> list[float]:
        """By how many nats each answer is likelier under the policy than under the reference, as in rollout/kl."""
        chat, device = self._chat, self._policy.device
        rendered = [Rendered(chat.prompt_ids(one.prompt.messages), one.sampled.response) for one in answers]
        nats = torch.zeros(len(answers), device=device)
        cuts = micro_batches([one.length for one in rendered], self._cfg.batch_tokens)
        for indices in sharding.with_idle_passes(self._policy, cuts):
            batch = collate([rendered[index] for index in indices], chat.pad_id, device)
            log_ratio = k1(token_logprobs(self._policy, batch), token_logprobs(self._reference, batch))  # (B, T)
            nats[indices] = log_ratio.sum(dim=1)[: len(indices)]
            self._report_progress()
        return require_finite(nats, "the KL values from the reference", "kl_not_finite").tolist()


def measured_prompts(prompts: Sequence[Prompt], cfg: PPOConfig) -> list[tuple[Prompt, int]]:
    """The prompts that are answered for each measurement, with the number of the answer: of few prompts, several."""
    order = seeding.permutation(len(prompts), seeding.generator(cfg.seed, "gauge/prompts"))
    numbered = ((prompts[index], number) for number in count() for index in order)
    return list(islice(numbered, cfg.gauge_prompts))


def by_prompt(answers: Sequence[SampledAnswer], scores: Sequence[float]) -> list[float]:
    """For each prompt, the mean score of its answers."""
    by_id: dict[Any, list[float]] = {}
    for answer, score in zip(answers, scores, strict=True):
        by_id.setdefault(answer.prompt.id, []).append(score)
    return [fmean(own) for own in by_id.values()]
