"""Some answers of every PPO step, each beside what the reference answers to the same prompt: for people to read.

Numbers alone hide what a policy has learnt to do for its reward. The prompts are the first of each iteration, which
come in random order, and not the best or the worst of it: what is shown should be what is usual.
"""

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from .. import seeding
from ..config import PPOConfig
from ..data import records
from ..data.chat import Chat
from ..data.records import Prompt, ShownSample
from ..logprobs import k1
from ..networks.networks import Policy
from ..run.checkpoint import Checkpoint
from .rollouts import Episode, Rewarder, Rollout, prompts_of
from .sampling import generate
from .scoring import Answer

FOLDER = "samples"
FILES = "step-*.jsonl"


class Showcase:
    """Writes samples/step-000012.jsonl of an attempt."""

    def __init__(
        self,
        attempt: Path,
        reference: Policy,
        chat: Chat,
        rewarder: Rewarder,
        prompts: Sequence[Prompt],
        cfg: PPOConfig,
        touch: Callable[[], None],
    ) -> None:
        self._folder = attempt / FOLDER
        self._reference, self._chat, self._rewarder, self._touch = reference, chat, rewarder, touch
        self._prompts, self._cfg = prompts, cfg
        self._by_id = {prompt.id: prompt for prompt in prompts}
        self._answers: dict[str, tuple[str, float]] = {}  # the reference's, with their rewards, by prompt id

    def show(self, iteration: int, rollouts: Sequence[Rollout]) -> None:
        """Keep what an iteration shows, as the samples of the step that it is."""
        self._answer(iteration)
        shown = [
            (episode, nats)
            for rollout in rollouts
            for episode, nats in zip(
                rollout.episodes, k1(rollout.logprobs, rollout.reference).sum(dim=1).tolist(), strict=True
            )
            if episode.place < self._cfg.shown_samples
        ]
        shown.sort(key=lambda pair: pair[0].place)
        self._folder.mkdir(exist_ok=True)
        path = self._folder / f"step-{iteration + 1:06d}.jsonl"
        draft = path.with_suffix(".draft")
        records.write(draft, [self._row(episode, nats) for episode, nats in shown])
        draft.replace(path)

    def go_on_from(self, saved: Checkpoint | None) -> None:
        """Take over the samples up to a checkpoint from the attempt that wrote it, and drop those after it."""
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

    def _answer(self, iteration: int) -> None:
        """Have the reference answer what this iteration shows.

        It answers for as many iterations at once as fill a rollout: a batch of few answers takes nearly as long.
        """
        cfg = self._cfg
        if all(prompt.id in self._answers for prompt in self._shown(iteration)):
            return
        last = min(cfg.iterations, iteration + max(1, cfg.rollout_size // cfg.shown_samples))
        asked = {prompt.id: prompt for turn in range(iteration, last) for prompt in self._shown(turn)}
        new = [prompt for prompt in asked.values() if prompt.id not in self._answers]
        draws = [seeding.generator(cfg.seed, "ppo/reference", 0, prompt.id) for prompt in new]
        ids = [self._chat.prompt_ids(prompt.messages) for prompt in new]
        drawn = generate(self._reference, self._chat, ids, draws, cfg.max_response, cfg.batch_tokens, self._touch)
        answers = [
            Answer(prompt.messages, self._chat.decode(one.response), one.stopped)
            for prompt, one in zip(new, drawn, strict=True)
        ]
        for prompt, answer, reward in zip(new, answers, self._rewarder(answers).tolist(), strict=True):
            self._answers[prompt.id] = (answer.text, reward)

    def _shown(self, iteration: int) -> list[Prompt]:
        return prompts_of(iteration, self._prompts, self._cfg)[: self._cfg.shown_samples]

    def _row(self, episode: Episode, nats: float) -> ShownSample:
        text, reward = self._answers[episode.prompt_id]
        return ShownSample(
            prompt_id=episode.prompt_id,
            messages=self._by_id[episode.prompt_id].messages,
            text=self._chat.decode(episode.rendered.response),
            n_tokens=len(episode.rendered.response),
            finish_reason="stop" if episode.stopped else "length",
            reward=_finite(episode.reward),
            kl=_finite(nats),
            reference_text=text,
            reference_reward=_finite(reward),
        )


def _step_of(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))


def _finite(value: float) -> float | None:
    """JSON knows no other numbers."""
    return value if math.isfinite(value) else None
