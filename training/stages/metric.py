"""What one of the engine's metrics is called for people: a plain name, what it means, and where it should lie.

The healthy bands are starting points, from what published runs report and from our own; a value outside is a reason
to look at the samples, and proves nothing by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Literal

from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from training.stages.number_format import number, percent

Words = str | Promise

STOP_RATE_FLOOR = 0.95
PER_TOKEN = _("nats per token")
TOKENS = _("tokens")
FALLS = _("Falls quickly at first, then levels off.")


class Summary(Enum):
    """How the values of all steps become the one figure that a run is remembered by."""

    MEAN = "mean"  # of the last tenth of the steps: what one batch of records or one rollout measures swings
    TOTAL = "total"  # the engine counts from the first step on, so that its last value is the number of all
    LAST = "last"  # measured every few steps, always on the same prompts: two of these are compared, and not averaged
    ONCE = "once"  # measured once, at the end


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric as a page shows it. A band may be open at one end; without one `healthy` says what to expect."""

    label: Words
    meaning: Words
    healthy: Words
    unit: Words = ""
    is_share: bool = False  # shown as a percentage
    summary: Summary = Summary.MEAN
    low: float | None = None
    high: float | None = None
    high_setting: str = ""  # the field of a run's config that takes the place of `high`
    # The end of the band that holds for the first epoch only: later ones have seen the records before.
    first_epoch_end: Literal["low", "high", ""] = ""

    def in_run(self, config: Mapping[str, Any]) -> Metric:
        """The same metric as it is meant in a run with `config`."""
        if self.high_setting:
            return replace(self, high=config.get(self.high_setting, self.high))
        if self.first_epoch_end and config.get("epochs", 1) > 1:
            return replace(self, low=None) if self.first_epoch_end == "low" else replace(self, high=None)
        return self

    def show(self, value: float) -> str:
        """`value` as people read it, without the unit."""
        return percent(value) if self.is_share else number(value)

    @property
    def has_band(self) -> bool:
        return self.low is not None or self.high is not None

    @property
    def band(self) -> str:
        """The healthy band in words; empty where there is none."""
        ends = {"low": self.low, "high": self.high}
        shown = {end: self.show(value) for end, value in ends.items() if value is not None}
        if shown and self.low == self.high:
            return gettext("healthy is %(low)s") % shown
        if len(shown) == len(ends):
            return gettext("healthy %(low)s to %(high)s") % shown
        if shown:
            return (gettext("healthy above %(low)s") if "low" in shown else gettext("healthy below %(high)s")) % shown
        return ""

    def is_outside(self, value: float) -> bool:
        """Whether `value` lies outside the healthy band."""
        return (self.low is not None and value < self.low) or (self.high is not None and value > self.high)


SKIPPED_STEPS = Metric(  # of every stage that trains
    label=_("skipped steps"),
    meaning=_("Updates skipped because their gradients were not finite."),
    healthy=_("None."),
    summary=Summary.TOTAL,
    low=0.0,
    high=0.0,
)

# What was made of the records, told once before the first step.
DATASET_METRICS: dict[str, Words] = {
    "data/used": _("records used"),
    "data/pairs": _("answer pairs to train on"),
    "data/too_long": _("left out: the prompt is too long for the model"),
    "data/refused": _("left out: the model's chat template refuses the prompt"),
    "data/tied": _("left out: all answers ranked equally"),
    "data/cut": _("cut off at the maximum answer length"),
}
