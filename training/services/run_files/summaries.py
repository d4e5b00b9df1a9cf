"""The figures of a run: each has one value, the same on every page and in the API, and words that say what it is.

What a step measures swings, so its figure is the mean of the last tenth of the steps; what the engine counts from the
first step on is the number of all; what is measured every few steps on the same prompts is the last measurement; what
is measured once is just that. While a run goes, the steps are those so far.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from django.utils.translation import gettext, gettext_lazy, ngettext

from training import stages
from training.models import Run
from training.services.run_files.metrics import Row
from training.stages.metric import Summary

LAST_SHARE = 0.1  # of the steps, whose mean says more than the last of them
RULE = gettext_lazy("mean of the last tenth of the steps")  # where several runs are shown side by side


class Figure(NamedTuple):
    """What a run is remembered by."""

    value: float
    span: str  # over which steps it goes, in words; empty where it was measured once


def figures(run: Run, rows: Sequence[Row]) -> dict[str, Figure]:
    """Every figure of `run`: as it was stored when the run succeeded, else from `rows`, its history so far."""
    values = summarise(rows) | run.metrics
    steps = rows[-1].step if rows else run.step
    return {name: Figure(value, steps_in_words(name, steps)) for name, value in values.items()}


def summarise(rows: Sequence[Row]) -> dict[str, float]:
    """The figure of every metric in `rows`."""
    found: dict[str, float] = {}
    for row in rows:
        found |= row.metrics
    end = rows[-1].step - window(rows[-1].step) if rows else 0
    for name in found:
        if _summary(name) is Summary.MEAN:
            values = [row.metrics[name] for row in rows if row.step > end and name in row.metrics]
            found[name] = fmean(values or [found[name]])
    return found


def window(steps: int) -> int:
    """Over how many of the last `steps` steps a mean goes."""
    return max(1, math.ceil(steps * LAST_SHARE))


def steps_in_words(name: str, steps: int) -> str:
    """Over which of `steps` steps the figure `name` goes; empty where it was measured once."""
    if _summary(name) is not Summary.MEAN:
        return rule_in_words(name)
    number = window(steps)
    return ngettext("the last step", "mean of the last %(number)d steps", number) % {"number": number}


def rule_in_words(name: str) -> str:
    """Over which steps the figure `name` goes, in words that hold for runs of any length."""
    words = {
        Summary.MEAN: str(RULE),
        Summary.TOTAL: gettext("total"),
        Summary.LAST: gettext("last measurement"),
        Summary.ONCE: "",
    }
    return words[_summary(name)]


def is_remeasured(name: str) -> bool:
    """Whether the figure is measured every few steps, each time of the policy as it is then."""
    return _summary(name) is Summary.LAST


def _summary(name: str) -> Summary:
    metric = stages.all_metrics().get(name)
    return metric.summary if metric else Summary.ONCE  # what has no name for people is counted once, as records are
