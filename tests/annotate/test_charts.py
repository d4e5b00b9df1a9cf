"""Charts: bars and dots stand where their numbers say, and the table has the same numbers."""

from __future__ import annotations

import pytest

from annotate.services.project_overview.charts import HEIGHT, WIDTH, Point, shares, stacked_bars


def bars_of(*rows: tuple[int, ...]):
    named = [(str(day), f"Day {day}", numbers) for day, numbers in enumerate(rows, 1)]
    return stacked_bars("c", title="C", meaning="", first_column="Day", columns=("people", "simulated"), rows=named)


def test_a_bar_is_as_high_as_its_number_and_stands_on_the_one_below() -> None:
    chart = bars_of((30, 10), (0, 0))
    people, simulated = chart.bars
    assert chart.ticks == ("40", "20", "0")
    assert (people.y, people.height) == (HEIGHT / 4, HEIGHT * 3 / 4)
    assert (simulated.y, simulated.height) == (0, HEIGHT / 4)
    assert people.x + people.width < WIDTH / 2
    assert people.title == "Day 1: 30 people"


def test_the_table_has_every_number_also_where_nothing_is_drawn() -> None:
    assert [(slot.name, slot.cells) for slot in bars_of((30, 10), (0, 0)).slots] == [
        ("Day 1", ("30", "10")),
        ("Day 2", ("0", "0")),
    ]


@pytest.mark.parametrize(
    ("number", "top"), [(0, "2"), (3, "4"), (9, "10"), (11, "12"), (13, "16"), (103, "120"), (999, "1000")]
)
def test_the_axis_ends_at_a_round_number_that_has_a_whole_half(number: int, top: str) -> None:
    assert bars_of((number, 0)).ticks[0] == top


def test_a_share_stands_at_its_height_with_its_interval() -> None:
    points = [Point("1", "Round 1", 0.5, 0.25, 1.2, "50%"), Point("2", "Round 2", 1.0, None, None, "100%")]
    chart = shares("s", title="S", meaning="", first_column="Round", column="Share", points=points, empty="None yet.")
    first, second = chart.dots
    assert (first.x, first.y, first.low, first.high) == (WIDTH / 4, HEIGHT / 2, HEIGHT * 3 / 4, 0)
    assert (second.y, second.low, second.high) == (0, 0, 0)
    assert chart.lines == [f"{WIDTH / 4},{HEIGHT / 2} {WIDTH * 3 / 4},0.0"]
    assert chart.empty == ""


def test_a_line_joins_only_what_was_measured_by_the_same() -> None:
    points = [Point(str(n), f"Round {n}", 0.5, None, None, "50%", by) for n, by in enumerate("aabba")]
    chart = shares("s", title="S", meaning="", first_column="Round", column="Share", points=points, empty="None yet.")
    assert [len(line.split()) for line in chart.lines] == [2, 2, 1]
    assert " ".join(chart.lines).split() == [f"{dot.x},{dot.y}" for dot in chart.dots]


def test_a_chart_of_nothing_says_when_there_will_be_something() -> None:
    chart = shares("s", title="S", meaning="", first_column="Round", column="Share", points=[], empty="None yet.")
    assert chart.empty == "None yet."
