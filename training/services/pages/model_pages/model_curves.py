"""Curves of models side by side: how each metric went while each of them was trained, drawn as small SVGs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from django.utils.translation import gettext as _

from training import stages
from training.models import ModelVersion
from training.services.pages.model_pages import model_metrics
from training.services.run_files import directories, metrics, summaries
from training.services.run_files.metrics import Row

WIDTH, HEIGHT = 320, 140
MARGIN = 4
MOST_POINTS = 160  # of one line: more cannot be seen at this size
MOMENTS = (0.0, 0.25, 0.5, 0.75)  # of a run, in the table that says the same as the picture; its last row is the figure

Points = list[tuple[int, float]]  # (step, value), in the order of the steps


class Series(NamedTuple):
    """One model's line in a chart, and its values at the MOMENTS, with the figure that all pages show."""

    name: str
    path: str
    values: list[str]
    number: int  # which of the page's models it is: decides colour and dashes


@dataclass(frozen=True)
class Chart:
    """One metric of several models."""

    label: str
    unit: str
    lowest: str
    highest: str
    last_step: int
    rule: str  # what the figure is
    series: list[Series]
    width: int = WIDTH
    height: int = HEIGHT

    @property
    def rows(self) -> list[tuple[str, tuple[str, ...]]]:
        """The chart as a table: a moment of the run, and the value of each series there."""
        moments = [*(f"{moment:.0%}" for moment in MOMENTS), self.rule]
        return list(zip(moments, zip(*(series.values for series in self.series), strict=True), strict=True))


def charts(models: list[ModelVersion]) -> list[Chart]:
    """A chart for each metric that has a name for people and that at least one of `models` has a history of."""
    rows = [_rows(model) for model in models]
    histories, figures = [_history(each) for each in rows], [summaries.summarise(each) for each in rows]
    drawn = {}
    for key in stages.all_metrics():
        lines = [(number, history[key]) for number, history in enumerate(histories) if len(history.get(key, [])) > 1]
        if lines:
            drawn[key] = lines
    return [_chart(key, label, models, drawn[key], figures) for key, label in model_metrics.labels(drawn).items()]


def _rows(model: ModelVersion) -> list[Row]:
    """What was measured while `model` was trained; nothing for a model that was brought along."""
    return metrics.read(directories.attempt(model.run.directory, model.attempt)).rows if model.run else []


def _history(rows: list[Row]) -> dict[str, Points]:
    history: dict[str, Points] = {}
    for row in rows:
        for key, value in row.metrics.items():
            history.setdefault(key, []).append((row.step, value))
    return history


def _chart(
    key: str,
    label: str,
    models: list[ModelVersion],
    lines: list[tuple[int, Points]],
    figures: list[dict[str, float]],
) -> Chart:
    values = [value for _number, points in lines for _step, value in points]
    lowest, highest = min(values), max(values)
    last_step = max(points[-1][0] for _number, points in lines)
    low, high = model_metrics.reading(key, lowest), model_metrics.reading(key, highest)
    series = [
        Series(
            models[number].name,
            _path(points, last_step, lowest, highest),
            [model_metrics.reading(key, value).value for value in [*_moments(points), figures[number][key]]],
            number + 1,
        )
        for number, points in lines
    ]
    rule = summaries.rule_in_words(key) or _("at the end")
    return Chart(label, str(low.unit), low.value, high.value, last_step, rule, series)


def _moments(points: Points) -> list[float]:
    return [points[round(moment * (len(points) - 1))][1] for moment in MOMENTS]


def _path(points: Points, last_step: int, lowest: float, highest: float) -> str:
    stride = -(-len(points) // MOST_POINTS)
    shown = points[::stride]
    if shown[-1] != points[-1]:
        shown.append(points[-1])
    return " ".join(
        f"{MARGIN + (WIDTH - 2 * MARGIN) * step / max(1, last_step):.1f},"
        f"{HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (value - lowest) / ((highest - lowest) or 1):.1f}"
        for step, value in shown
    )
