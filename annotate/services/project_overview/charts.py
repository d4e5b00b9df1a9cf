"""Charts drawn on the server: the positions of bars, dots and lines in an SVG, and a table with the same data.

The SVG is stretched to the available width, so it contains shapes only: numbers and names are text next to it.
Dots are lines without length, which stay round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from math import floor, log10
from typing import NamedTuple

WIDTH, HEIGHT = 600, 160
GAP = 0.25  # share of a slot that is left free beside its bar
ENDS = (10, 12, 16, 20, 30, 40, 50, 60, 80, 100)  # times a power of ten: where an axis may end


class Bar(NamedTuple):
    """A rectangle of the series with this number; `title` is its tooltip."""

    x: float
    y: float
    width: float
    height: float
    series: int
    title: str


class Dot(NamedTuple):
    """A value with its interval; without one, `low` and `high` are `y`."""

    x: float
    y: float
    low: float
    high: float
    title: str


class Slot(NamedTuple):
    """One position on the lower axis: its name below the chart, and in the table."""

    label: str  # below the chart; short, or empty where its neighbours' do
    name: str  # in the table
    cells: tuple[str, ...]  # of the table


class Point(NamedTuple):
    """A measured value of a chart by points."""

    label: str
    name: str
    value: float
    low: float | None
    high: float | None
    text: str  # the value with its interval, as people read it
    measure: str = ""  # by which it was measured: a line joins neighbours with the same one


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart and its table."""

    name: str  # unique on its page
    title: str
    meaning: str
    first_column: str  # of the table
    columns: tuple[str, ...]  # the others; more than one are the series, with a legend
    ticks: tuple[str, ...]  # of the vertical axis, from the top down, evenly spaced
    slots: list[Slot]
    bars: list[Bar] = field(default_factory=list)
    dots: list[Dot] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)  # through the dots: the points of each
    empty: str = ""  # shown instead of the chart if there is nothing to draw: why, and when there will be
    width: int = WIDTH
    height: int = HEIGHT

    @property
    def middle(self) -> float:
        """Where the line of the middle tick runs."""
        return self.height / 2


def stacked_bars(
    name: str,
    *,
    title: str,
    meaning: str,
    first_column: str,
    columns: tuple[str, ...],
    rows: Sequence[tuple[str, str, Sequence[int]]],
) -> Chart:
    """A bar for each of `rows` (label, name, a number for each of `columns`), the first number lowest."""
    top = _round_up(max((sum(numbers) for _label, _name, numbers in rows), default=0))
    step = WIDTH / max(1, len(rows))
    bars = []
    for slot, (_label, row_name, numbers) in enumerate(rows):
        below = 0
        for series, number in enumerate(numbers, 1):
            if number:
                y, height = HEIGHT * (1 - (below + number) / top), HEIGHT * number / top
                told = f"{row_name}: {number} {columns[series - 1]}"
                bars.append(
                    Bar(_cut(step * (slot + GAP / 2)), _cut(y), _cut(step * (1 - GAP)), _cut(height), series, told)
                )
            below += number
    return Chart(
        name=name,
        title=title,
        meaning=meaning,
        first_column=first_column,
        columns=columns,
        ticks=(str(top), str(top // 2), "0"),
        slots=[Slot(label, row_name, tuple(map(str, numbers))) for label, row_name, numbers in rows],
        bars=bars,
    )


def shares(
    name: str, *, title: str, meaning: str, first_column: str, column: str, points: Sequence[Point], empty: str
) -> Chart:
    """A dot with its interval for each of `points`, which are shares from 0 to 1.

    Lines join them, but not where they were measured by something else: such values cannot be compared.
    """
    step = WIDTH / max(1, len(points))
    dots: list[Dot] = []
    for slot, point in enumerate(points):
        low = point.value if point.low is None else point.low
        high = point.value if point.high is None else point.high
        x, told = _cut(step * (slot + 0.5)), f"{point.name}: {point.text}"
        dots.append(Dot(x, _height(point.value), _height(low), _height(high), told))
    return Chart(
        name=name,
        title=title,
        meaning=meaning,
        first_column=first_column,
        columns=(column,),
        ticks=("100%", "50%", "0%"),
        slots=[Slot(point.label, point.name, (point.text,)) for point in points],
        dots=dots,
        lines=[
            " ".join(f"{dot.x},{dot.y}" for _point, dot in joined)
            for _measure, joined in groupby(zip(points, dots, strict=True), key=lambda pair: pair[0].measure)
        ],
        empty="" if points else empty,
    )


def _height(share: float) -> float:
    return _cut(HEIGHT * (1 - min(1.0, max(0.0, share))))


def _round_up(number: int) -> int:
    """The end of an axis that shows `number`: 2, 4, 6, 8, 10, 12, 16, 20 …; its half is a whole number."""
    if number <= 10:
        return max(2, number + number % 2)
    power: int = 10 ** (floor(log10(number)) - 1)
    return next(end * power for end in ENDS if end * power >= number)


def _cut(number: float) -> float:
    return round(number, 1)
