"""The samples that PPO keeps of each step for people to read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from django.utils.translation import gettext_lazy

from training.models import Run, SentSample
from training.services.run_files.reader import RunFiles
from training.stages.metric import Words

LEVELS = 10  # of distance, from none to the run's limit


@dataclass(frozen=True, kw_only=True)
class StepSample:
    """One answer of a step, and what the reference answers to the same prompt."""

    index: int  # of its line in the step's file, from 0
    prompt_id: str
    messages: list[dict[str, str]]
    text: str
    n_tokens: int
    finish_reason: str
    reward: float | None  # None where it was no finite number
    kl: float | None  # nats of the whole answer, likewise
    reference_text: str
    reference_reward: float | None
    is_sent: bool = False

    @property
    def digest(self) -> str:
        return SentSample.digest_of(self.prompt_id, self.text, self.reference_text)


@dataclass(frozen=True, kw_only=True)
class StepCell:
    """One step in the bar."""

    step: int
    kl: float | None
    reward: float | None
    level: int  # 0: not done yet; 1 is near the reference, LEVELS at the limit and beyond
    has_samples: bool


def _downward(value: float | None) -> float:
    return math.inf if value is None else -value


ORDERS: dict[str, tuple[Words, Callable[[StepSample], float]]] = {
    "worst": (gettext_lazy("lowest reward first"), lambda sample: math.inf if sample.reward is None else sample.reward),
    "best": (gettext_lazy("highest reward first"), lambda sample: _downward(sample.reward)),
    "changed": (gettext_lazy("highest KL first"), lambda sample: _downward(sample.kl)),
}


def step_cells(files: RunFiles) -> list[StepCell]:
    """A cell for every step of a PPO run, done or still to come."""
    rows, limit = files.history, files.config.get("kl_limit") or 1.0
    done = {row.step: row.metrics for row in rows if row.step > 0}
    last = max([rows[-1].total, *done]) if rows else files.run.total
    return [_cell(step, done.get(step), limit, step in files.samples) for step in range(1, last + 1)]


def read(run: Run, step: int, *, order: str) -> list[StepSample]:
    """The samples of a step in one of ORDERS; none where no file was kept."""
    path = RunFiles(run).samples.get(step)
    if path is None:
        return []
    lines = path.read_text("utf-8", errors="replace").split("\n")
    samples = [sample for index, line in enumerate(lines) if (sample := _sample(index, line))]
    digests = [sample.digest for sample in samples]
    sent = set(SentSample.objects.filter(run__project=run.project, digest__in=digests).values_list("digest", flat=True))
    marked = [replace(sample, is_sent=sample.digest in sent) for sample in samples]
    return sorted(marked, key=ORDERS[order][1])


def _cell(step: int, metrics: dict[str, float] | None, limit: float, has_samples: bool) -> StepCell:
    if metrics is None:
        return StepCell(step=step, kl=None, reward=None, level=0, has_samples=False)
    kl = metrics.get("rollout/kl", 0.0)
    level = max(1, math.ceil(LEVELS * min(1.0, kl / limit)))
    return StepCell(step=step, kl=kl, reward=metrics.get("rollout/reward"), level=level, has_samples=has_samples)


def _sample(index: int, line: str) -> StepSample | None:
    """A line of a samples file; None for one that is incomplete."""
    try:
        raw = json.loads(line)
        return StepSample(
            index=index,
            prompt_id=str(raw["prompt_id"]),
            messages=[{"role": message["role"], "content": message["content"]} for message in raw["messages"]],
            text=raw["text"],
            n_tokens=raw["n_tokens"],
            finish_reason=raw["finish_reason"],
            reward=raw["reward"],
            kl=raw["kl"],
            reference_text=raw["reference_text"],
            reference_reward=raw["reference_reward"],
        )
    except (ValueError, KeyError, TypeError):
        return None
