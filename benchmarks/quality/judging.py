"""How good a policy is, and how far from its SFT policy: the same code for both sides of benchmarks/ppo_quality.py.

Answers are sampled and KL is measured by the engine's evaluation. The gold utility is computed outside of it.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from training.rlhf.config import EvaluationConfig
from training.rlhf.data.chat import Chat
from training.rlhf.data.records import Prompt
from training.rlhf.networks.policy import Policy, load_policy
from training.rlhf.run.directory import RunDirectory
from training.rlhf.stages.evaluation import divergence
from training.rlhf.stages.sampling import SampledAnswer, Sampler
from training.tiny.figures import Utilities, win_rate
from training.tiny.gold import utility


class Point(NamedTuple):
    """A policy on its way through PPO."""

    iteration: int  # iterations behind it
    kl: float  # from SFT, nats per answer: the mean over its own answers
    gold: list[float]  # the mean of its answers to each held-out prompt
    wins: float  # how often its answer has more gold than one by SFT
    stop_rate: float


class Judge:
    """The held-out prompts, and the answers of the reference to them; `farthest`, nats, is where runs end."""

    def __init__(
        self,
        work: Path,
        reference: Policy,
        chat: Chat,
        prompts: Sequence[Prompt],
        cfg: EvaluationConfig,
        farthest: float,
    ) -> None:
        self.chat = chat
        self.reference = Sampler("reference", reference, self.chat)
        self.run = RunDirectory(work)
        self.cfg = cfg
        self.farthest = farthest
        self.wanted = [(prompt, number) for prompt in prompts for number in range(cfg.draws)]
        self.reference_gold = gold_by_prompt(self.reference.sample(self.wanted, cfg, self.run, None))

    def point(self, policy: Policy, iteration: int) -> Point:
        """The figures of a policy."""
        sampler = Sampler("policy", policy, self.chat)
        answers = sampler.sample(self.wanted, self.cfg, self.run, None)
        progress, batch_tokens = self.run.report_progress_or_stop, self.cfg.batch_tokens
        divergences = divergence(policy, self.reference.policy, self.chat, answers, batch_tokens, progress)
        gold = gold_by_prompt(answers)
        return Point(
            iteration=iteration,
            kl=fmean(kl for kl, _entropy in divergences),
            gold=[fmean(gold[prompt]) for prompt in sorted(gold)],
            wins=win_rate(gold, self.reference_gold).value,
            stop_rate=fmean(answer.sampled.stopped for answer in answers),
        )

    def load(self, directory: Path) -> Policy:
        """A policy that continues from this SFT policy, whoever trained it."""
        return load_policy(directory, self.chat, self.cfg.dtype)


def gold_by_prompt(answers: Sequence[SampledAnswer]) -> Utilities:
    """What the answers to each prompt are worth."""
    gold: dict[str, list[float]] = {}
    for answer in answers:
        worth = utility(answer.prompt.messages[-1]["content"], answer.text)
        gold.setdefault(answer.prompt.id, []).append(worth)
    return gold
