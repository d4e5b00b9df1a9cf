"""The gauge of a PPO run as one picture: the independent judge's score beside the reward that PPO climbs.

Both are in σ and of the same answers, so they share one panel; what else was measured of those answers stands below it
at the same steps. A second panel has them against the square root of KL, as Gao et al. 2022 (section 3.1) plot them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from training.models import Run
from training.services.run_files import curves
from training.services.run_files.curves import Curve, Point
from training.services.run_files.metrics import Row
from training.services.run_files.reader import RunFiles
from training.stages.metric import Metric, Words

JUDGE, REWARD = "gauge/watcher", "gauge/reward"
SMALL_PANELS: dict[str, Words] = {  # each with a scale of its own; the picture says on which prompts
    "gauge/kl": gettext_lazy("KL"),
    "gauge/length": gettext_lazy("length"),
    "gauge/stop_rate": gettext_lazy("stop rate"),
}
MEASURED: dict[str, Words] = {
    JUDGE: gettext_lazy("independent judge"),
    REWARD: gettext_lazy("reward"),
    **SMALL_PANELS,
}
BEST_STEP = "gauge/best_step"
DRAWN = {*MEASURED, BEST_STEP}


@dataclass(frozen=True, kw_only=True)
class GaugeCurves:
    """All measurements of a run with the watcher, and which of them it liked best."""

    curves: dict[str, Curve]  # by name: each metric with its figure and its healthy band
    rows: list[Row]  # one for each measurement
    best: Row
    is_published: bool  # the policy that the run has published is the best one
    is_over: bool

    @property
    def judge(self) -> Curve:
        return self.curves[JUDGE]

    @property
    def reward(self) -> Curve:
        return self.curves[REWARD]

    @property
    def small_panels(self) -> list[tuple[Words, Curve]]:
        return [(label, self.curves[name]) for name, label in SMALL_PANELS.items()]

    @property
    def columns(self) -> list[tuple[Words, Metric]]:
        """Those of the table, beside the step."""
        return [(label, self.curves[name].metric) for name, label in MEASURED.items()]

    @property
    def verdict(self) -> str:
        """What the mark in the picture stands for."""
        if self.is_published:
            return _("published: step %(step)d") % {"step": self.best.step}
        if self.is_over:
            return _("the judge's best: step %(step)d") % {"step": self.best.step}
        return _("best so far: step %(step)d") % {"step": self.best.step}

    @property
    def description(self) -> str:
        """The picture in words, for those who do not see it."""
        first, last = self.rows[0], self.last
        return _(
            "From step %(first)d to step %(last)d the independent judge's score goes from %(judge_from)s to "
            "%(judge_to)s and the reward from %(reward_from)s to %(reward_to)s. The judge's best score is %(best)s, "
            "at step %(step)d. The values are in the table below."
        ) % {
            "first": first.step,
            "last": last.step,
            "judge_from": self._text(JUDGE, first),
            "judge_to": self._text(JUDGE, last),
            "reward_from": self._text(REWARD, first),
            "reward_to": self._text(REWARD, last),
            "best": self._text(JUDGE, self.best),
            "step": self.best.step,
        }

    @property
    def last(self) -> Row:
        return self.rows[-1]

    @property
    def table(self) -> list[tuple[int, bool, list[str]]]:
        """For each measurement its step, whether it is the best, and its values in words."""
        rows = self._thin(curves.TABLE_ROWS)
        return [(row.step, row.step == self.best.step, [self._text(name, row) for name in MEASURED]) for row in rows]

    @property
    def drawing(self) -> dict[str, Any]:
        """What the browser draws from."""
        rows = self._thin(curves.MOST_POINTS)
        return {
            "steps": [row.step for row in rows],
            "rootKl": [max(row.metrics["gauge/kl"], 0.0) ** 0.5 for row in rows],  # an estimate may lie below 0
            "best": rows.index(self.best),
            "at": [_("at step %(step)d") % {"step": row.step} for row in rows],
            "metrics": {
                name: curve.drawing
                | {
                    "values": [row.metrics[name] for row in rows],
                    "texts": [self._text(name, row) for row in rows],
                }
                for name, curve in self.curves.items()
            },
        }

    def _text(self, name: str, row: Row) -> str:
        return self.curves[name].metric.show(row.metrics[name])

    def _thin(self, most: int) -> list[Row]:
        """At most `most` measurements, and the best: those that the judge's curve needs."""
        points = [Point(row.step, row.metrics[JUDGE]) for row in self.rows]
        kept = {point.step for point in curves.thin(points, most)} | {self.best.step}
        return [row for row in self.rows if row.step in kept]


def build(files: RunFiles, drawn: Sequence[Curve]) -> GaugeCurves | None:
    """The picture of a run whose curves are `drawn`; None where no watcher has measured anything."""
    rows = [row for row in files.history if row.metrics.keys() >= DRAWN]
    if not rows:
        return None
    run, best_step = files.run, rows[-1].metrics[BEST_STEP]
    is_steered = files.config.get("early_stopping") == "on"
    return GaugeCurves(
        curves={curve.name: curve for curve in drawn if curve.name in MEASURED},
        rows=rows,
        best=next((row for row in rows if row.step == best_step), rows[-1]),
        is_published=run.status == Run.Status.SUCCEEDED and is_steered,
        is_over=run.status in Run.FINISHED,
    )
