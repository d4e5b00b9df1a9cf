"""The figures of a run: each has one value, the same on every page and in the API, and words that say over which steps.

What is measured on one batch of records swings from step to step, so its figure is the mean of the last tenth of the
steps; everything else is the value of the last step. While a run goes, it is the last tenth of the steps so far.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from django.utils.translation import gettext_lazy, ngettext

from training import stages
from training.models import Run
from training.services.run_files.metrics import Row

LAST_SHARE = 0.1  # of the steps, whose mean says more than the last of them
RULE = gettext_lazy("mean of the last tenth of the steps")  # where several runs are shown side by side


class Figure(NamedTuple):
    """What a run is remembered by."""

    value: float
    span: str  # over which steps it is the mean, in words; empty where it is none


def figures(run: Run, rows: Sequence[Row]) -> dict[str, Figure]:
    """Every figure of `run`: as it was stored when the run succeeded, else from `rows`, its history so far."""
    values = summarise(rows) | run.metrics
    steps = rows[-1].step if rows else run.step
    return {name: Figure(value, steps_averaged(name, steps)) for name, value in values.items()}


def summarise(rows: Sequence[Row]) -> dict[str, float]:
    """The last value of every metric in `rows`; of noisy ones, the mean over the last steps."""
    found: dict[str, float] = {}
    for row in rows:
        found |= row.metrics
    end = rows[-1].step - window(rows[-1].step) if rows else 0
    for name in filter(_is_noisy, found):
        values = [row.metrics[name] for row in rows if row.step > end and name in row.metrics]
        found[name] = fmean(values or [found[name]])
    return found


def window(steps: int) -> int:
    """Over how many of the last `steps` steps the mean of what is noisy goes."""
    return max(1, math.ceil(steps * LAST_SHARE))


def steps_averaged(name: str, steps: int) -> str:
    """Over which of `steps` steps the figure `name` is the mean; empty where it is none."""
    if not _is_noisy(name):
        return ""
    number = window(steps)
    return ngettext("the last step", "mean of the last %(number)d steps", number) % {"number": number}


def averaging_rule(name: str) -> str:
    """Over which steps the figure `name` goes, in words that hold for runs of any length."""
    return str(RULE) if _is_noisy(name) else ""


def _is_noisy(name: str) -> bool:
    metric = stages.all_metrics().get(name)
    return metric is not None and metric.is_noisy
