"""samples/step-000012.jsonl: some answers of every PPO step, each with the reference's answer, for people to read.

Numbers alone hide what a policy has learnt to do for its reward. The prompts are the first of each iteration, whose
order is random, so that what is shown is typical, neither the best nor the worst.
"""

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from .. import ranks, seeding
from ..config import PPOConfig
from ..data import records
from ..data.chat import Chat
from ..data.records import Prompt, ShownSample
from ..json_files import replacing
from ..logprobs import k1
from ..networks.policy import Policy
from ..run.checkpoint import Checkpoint
from .rollouts import Episode, Rewarder, Rollout, iteration_prompts
from .sampling import generate
from .scoring import Answer

FOLDER = "samples"
FILES = "step-*.jsonl"


class StepSampleWriter:
    """Writes the files of an attempt."""

    def __init__(
        self,
        attempt: Path,
        reference: Policy,
        chat: Chat,
        rewarder: Rewarder,
        prompts: Sequence[Prompt],
        cfg: PPOConfig,
        report_progress: Callable[[], None],
    ) -> None:
        self._folder = attempt / FOLDER
        self._reference, self._chat, self._rewarder, self._report_progress = reference, chat, rewarder, report_progress
        self._prompts, self._cfg = prompts, cfg
        self._by_id = {prompt.id: prompt for prompt in prompts}
        self._groups: list[list[Prompt]] = []  # that the reference answers at once
        self._group_by_id: dict[str, int] = {}  # the number of a prompt's group
        self._answered: set[int] = set()  # groups
        self._answers: dict[str, tuple[str, float]] = {}  # the reference's, with their rewards, by prompt id

    def write(self, iteration: int, rollouts: Sequence[Rollout]) -> None:
        """Write the samples of an iteration, which is the step after it."""
        self._answer_by_reference(iteration)
        shown = []
        for rollout in rollouts:
            kls = k1(rollout.logprobs, rollout.reference_logprobs).sum(dim=1).tolist()  # nats of each whole answer
            for episode, kl in zip(rollout.episodes, kls, strict=True):
                if episode.position < self._cfg.shown_samples:
                    shown.append((episode, kl))
        everyones = [pair for part in ranks.gathered(shown) for pair in part]
        everyones.sort(key=lambda pair: pair[0].position)
        if not ranks.is_first():
            return
        self._folder.mkdir(exist_ok=True)
        with replacing(self._folder / f"step-{iteration + 1:06d}.jsonl") as draft:
            records.write(draft, [self._row(episode, kl) for episode, kl in everyones])

    def resume_from(self, saved: Checkpoint | None) -> None:
        """Copy the samples up to a checkpoint from the attempt that wrote it, and delete those after it."""
        if not ranks.is_first():
            return
        last = saved.step if saved else 0
        for path in self._folder.glob(FILES):
            if _step_of(path) > last:
                path.unlink()
        if saved is None or saved.attempt == self._folder.parent:
            return
        self._folder.mkdir(exist_ok=True)
        for path in (saved.attempt / FOLDER).glob(FILES):
            if _step_of(path) <= last:
                shutil.copyfile(path, self._folder / path.name)

    def _answer_by_reference(self, iteration: int) -> None:
        """Have the reference answer the prompts that this iteration shows, and those that it answers with them."""
        self._group_prompts(iteration)
        shown = {self._group_by_id[prompt.id] for prompt in self._shown_prompts(iteration)}
        for number in sorted(shown - self._answered):
            group = self._groups[number]
            for prompt, answer in zip(group, ranks.spread(group, self._sample_answers), strict=True):
                self._answers[prompt.id] = answer
            self._answered.add(number)

    def _group_prompts(self, iteration: int) -> None:
        """Group the prompts that are shown up to an iteration by what the reference answers at once.

        These are the new prompts of as many iterations as fill a rollout: a small batch takes nearly as long as a full
        one. The groups are the same after a resume, or the last digits of the rewards would not be.
        """
        cfg = self._cfg
        iterations = max(1, cfg.rollout_size // cfg.shown_samples)
        while len(self._groups) <= iteration // iterations:
            first = len(self._groups) * iterations
            numbers = range(first, min(cfg.iterations, first + iterations))
            prompts = {prompt.id: prompt for number in numbers for prompt in self._shown_prompts(number)}
            new = [prompt for prompt in prompts.values() if prompt.id not in self._group_by_id]
            self._group_by_id |= {prompt.id: len(self._groups) for prompt in new}
            self._groups.append(new)

    def _sample_answers(self, new: Sequence[Prompt]) -> list[tuple[str, float]]:
        """The text of the reference's answer to each prompt, and its reward."""
        cfg = self._cfg
        generators = [seeding.generator(cfg.seed, "ppo/reference", 0, prompt.id) for prompt in new]
        ids = [self._chat.prompt_ids(prompt.messages) for prompt in new]
        samples = generate(
            self._reference, self._chat, ids, generators, cfg.max_response, cfg.cache_mb, self._report_progress
        )
        answers = [
            Answer(prompt.messages, self._chat.decode(sample.response), sample.stopped, sampled=sample.response)
            for prompt, sample in zip(new, samples, strict=True)
        ]
        return [(answer.text, reward) for answer, reward in zip(answers, self._rewarder(answers).tolist(), strict=True)]

    def _shown_prompts(self, iteration: int) -> list[Prompt]:
        return iteration_prompts(iteration, self._prompts, self._cfg)[: self._cfg.shown_samples]

    def _row(self, episode: Episode, kl: float) -> ShownSample:
        text, reward = self._answers[episode.prompt_id]
        return ShownSample(
            prompt_id=episode.prompt_id,
            messages=self._by_id[episode.prompt_id].messages,
            text=self._chat.decode(episode.rendered.response),
            n_tokens=len(episode.rendered.response),
            finish_reason="stop" if episode.stopped else "length",
            reward=_finite(episode.reward),
            kl=_finite(kl),
            reference_text=text,
            reference_reward=_finite(reward),
        )


def _step_of(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))


def _finite(value: float) -> float | None:
    """None for a number that JSON cannot hold."""
    return value if math.isfinite(value) else None
