"""Intervals: between what a figure lies, with 95 % confidence, given how few prompts or pairs it was measured on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import sqrt
from statistics import fmean
from typing import NamedTuple

Z = 1.959964  # of a normal distribution, 95 % lie within so many standard deviations
RESAMPLES = 1000
DRAWS = 1_000_000  # at most, of all resamples together: a page waits for it, once


class Interval(NamedTuple):
    """A figure and where it lies."""

    value: float
    low: float
    high: float


def bootstrap(values: Sequence[float], *, seed: int) -> Interval:
    """The mean of `values`, and the middle 95 % of the means of resamples of them. `values` must not be empty."""
    draw = random.Random(seed)
    number = max(100, min(RESAMPLES, DRAWS // len(values)))
    means = sorted(fmean(draw.choices(values, k=len(values))) for _ in range(number))
    return Interval(fmean(values), means[round(0.025 * (number - 1))], means[round(0.975 * (number - 1))])


def wilson(share: float, of: int) -> Interval:
    """A share of `of` cases with Wilson's interval, which holds for shares near 0 and 1, too. `of` must be above 0."""
    centre = (share + Z * Z / (2 * of)) / (1 + Z * Z / of)
    reach = Z * sqrt(share * (1 - share) / of + Z * Z / (4 * of * of)) / (1 + Z * Z / of)
    return Interval(share, max(0.0, centre - reach), min(1.0, centre + reach))
