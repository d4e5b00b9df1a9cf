"""Curves: the whole history of a run as a page draws it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from training import stages
from training.services.run_files import summaries
from training.services.run_files.metrics import Row
from training.services.run_files.reader import RunFiles
from training.services.run_files.summaries import Figure
from training.stages.metric import DATASET_METRICS, Metric, Words

MOST_POINTS = 1_000  # of a curve: more than a screen has columns
TABLE_ROWS = 100  # of the table behind it; all of them are in the CSV
FLAT_SHARE = 0.05  # of the healthy band, or of the curve's own height: who moves less than that is flat
FEWEST_STEPS = 5  # from which on a curve can be called flat


class Point(NamedTuple):
    step: int
    value: float


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One metric over the steps of a run, thinned out for a screen."""

    name: str
    metric: Metric
    figure: Figure  # the run's, the same as on every other page
    points: list[Point]
    is_folded: bool  # nothing happens in it, nothing is wrong with it, and it is not the most telling one

    @property
    def id(self) -> str:
        """The name as an element's id."""
        return self.name.replace("/", "-").replace("_", "-")

    @property
    def value(self) -> str:
        return self.metric.show(self.figure.value)

    @property
    def is_outside(self) -> bool:
        """Whether the figure lies outside the healthy band."""
        return self.metric.is_outside(self.figure.value)

    @property
    def table(self) -> list[tuple[int, str]]:
        """Steps and values for the table, in their order."""
        return [(point.step, self.metric.show(point.value)) for point in thin(self.points, TABLE_ROWS)]

    @property
    def drawing(self) -> dict[str, Any]:
        """What the browser draws from."""
        return {
            "label": str(self.metric.label),
            "unit": str(self.metric.unit),
            "isShare": self.metric.is_share,
            "low": self.metric.low,
            "high": self.metric.high,
            "steps": [point.step for point in self.points],
            "values": [point.value for point in self.points],
        }


def build(files: RunFiles) -> list[Curve]:
    """The curves of a run that have a name for people, the most telling first."""
    rows, figures = files.history, summaries.figures(files.run, files.history)
    stage = stages.find(files.run.stage)
    first = next(iter(stage.shown_metrics), "")
    return [
        _curve(name, stage.metrics[name].in_run(files.config), figures[name], points, is_first=name == first)
        for name in stage.shown_metrics
        if name in figures and (points := [Point(row.step, row.metrics[name]) for row in rows if name in row.metrics])
    ]


def is_flat_and_healthy(metric: Metric, values: Sequence[float]) -> bool:
    """Whether a curve can be folded away: every value lies in the healthy band, and they hardly differ.

    Without a band nobody can say that a curve is healthy.
    """
    if not metric.has_band or len(values) < FEWEST_STEPS or any(map(metric.is_outside, values)):
        return False
    lowest, highest = min(values), max(values)
    if metric.low is not None and metric.high is not None:
        scale = metric.high - metric.low
    else:
        scale = max(abs(lowest), abs(highest))
    return highest - lowest <= FLAT_SHARE * scale


def _curve(name: str, metric: Metric, figure: Figure, points: list[Point], *, is_first: bool) -> Curve:
    is_folded = not is_first and is_flat_and_healthy(metric, [point.value for point in points])
    return Curve(name=name, metric=metric, figure=figure, points=thin(points), is_folded=is_folded)


def dataset_figures(rows: Sequence[Row]) -> list[tuple[Words, int]]:
    """What the run made of its records, in words and numbers; nothing before it has said so, in its first row."""
    first = rows[0].metrics if rows else {}
    return [(words, int(first[name])) for name, words in DATASET_METRICS.items() if name in first]


def thin(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """At most `most` of `points`, in their order: the ends, and the lowest and highest of each stretch between."""
    if len(points) <= most:
        return list(points)
    inner = points[1:-1]
    stretches = (most - 2) // 2
    kept = [points[0]]
    for number in range(stretches):
        stretch = inner[number * len(inner) // stretches : (number + 1) * len(inner) // stretches]
        extremes = {min(stretch, key=lambda point: point.value), max(stretch, key=lambda point: point.value)}
        kept += sorted(extremes)
    return [*kept, points[-1]]
