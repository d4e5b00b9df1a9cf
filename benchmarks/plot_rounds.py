"""Draws what benchmarks/overoptimisation.py measured: gold, judge and reward against KL, one panel for each round.

Gold is what people would think, in the same unit as the others: standard deviations of the scores of SFT's answers to
these prompts. The ring is the policy that the gauge would publish.

    python benchmarks/overoptimisation.py --work DIR --seeds 10 --shares 0.67 --rounds 3 > rounds.jsonl
    python benchmarks/plot_rounds.py rounds.jsonl docs/images/rounds.svg
"""

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

Record = dict[str, Any]
LINES = {  # told apart without colours, too
    "gold": ("gold (what people would think)", "#1b7f4d", ""),
    "watcher": ("independent judge", "#2454c5", "7 4"),
    "climbed": ("reward that PPO climbs", "#b0500a", "2 3"),
}
WIDTH, HEIGHT, LEFT, TOP, BOTTOM, GAP = 300, 230, 60, 34, 70, 24  # pixels
TICK = 0.2


class Scale(NamedTuple):
    """From values to pixels of one panel; both axes begin at their lowest value or 0."""

    left: float
    farthest: float
    lowest: float
    highest: float

    def x(self, distance: float) -> float:
        return round(self.left + WIDTH * distance / self.farthest, 1)

    def y(self, score: float) -> float:
        return round(TOP + HEIGHT * (self.highest - score) / (self.highest - self.lowest), 1)


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    runs = [json.loads(line) for line in source.read_text().splitlines()]
    width, height = LEFT + len(runs) * (WIDTH + GAP), TOP + HEIGHT + BOTTOM
    shapes = "\n".join([*picture(runs), *legend(TOP + HEIGHT + BOTTOM - 12)])
    # White below, so that it can be read on a dark page, too.
    target.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="12" fill="#222">\n<rect width="{width}" height="{height}" fill="#fff"/>\n{shapes}\n</svg>\n'
    )


def picture(runs: list[Record]) -> Iterator[str]:
    """All panels, on the same scale."""
    scores = [score for run in runs for name in LINES for score in standardised(run, name)]
    farthest = math.ceil(max(point["kl"] for run in runs for point in run["points"]) / TICK) * TICK
    lowest, highest = (
        limit(value / TICK) * TICK for limit, value in ((math.floor, min(scores)), (math.ceil, max(scores)))
    )
    middle = TOP + HEIGHT / 2
    label = "mean score, standard deviations of SFT's"
    yield f'<text transform="translate(16 {middle}) rotate(-90)" text-anchor="middle">{label}</text>'
    for number, run in enumerate(runs):
        yield from panel(run, Scale(LEFT + number * (WIDTH + GAP), farthest, lowest, highest))


def panel(run: Record, scale: Scale) -> Iterator[str]:
    """One round."""
    middle, bottom = scale.left + WIDTH / 2, TOP + HEIGHT
    title = f"PPO round {run['round']}, seed {run['seed']}: gold wins {run['wins_published']:.0%}"
    yield f'<text x="{middle}" y="18" text-anchor="middle">{title}</text>'
    yield f'<text x="{middle}" y="{bottom + 34}" text-anchor="middle">KL from SFT, nats per answer</text>'
    for tick in ticks(0, scale.farthest):
        x = scale.x(tick)
        yield f'<path d="M{x} {TOP}V{bottom}" stroke="#ddd"/>'
        yield f'<text x="{x}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>'
    for tick in ticks(scale.lowest, scale.highest):
        y = scale.y(tick)
        yield f'<path d="M{scale.left} {y}h{WIDTH}" stroke="#ddd"/>'
        yield f'<text x="{scale.left - 6}" y="{y + 4}" text-anchor="end">{tick:g}</text>'
    distances = [max(point["kl"], 0.0) for point in run["points"]]  # an estimate may lie below 0
    published = next(n for n, point in enumerate(run["points"]) if point["iteration"] == run["published"])
    for name, (_label, colour, dashes) in LINES.items():
        places = [(scale.x(kl), scale.y(score)) for kl, score in zip(distances, standardised(run, name), strict=True)]
        line = " ".join(f"{x},{y}" for x, y in places)
        yield f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"/>'
        yield from (f'<circle cx="{x}" cy="{y}" r="2.5" fill="{colour}"/>' for x, y in places)
        x, y = places[published]
        yield f'<circle cx="{x}" cy="{y}" r="7" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def legend(y: float) -> Iterator[str]:
    """What the lines are."""
    for number, (label, colour, dashes) in enumerate(LINES.values()):
        x = LEFT + 230 * number
        yield f'<path d="M{x} {y - 4}h28" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"/>'
        yield f'<text x="{x + 34}" y="{y}">{label}</text>'


def ticks(low: float, high: float) -> list[float]:
    """The values that an axis names."""
    return [round(low + number * TICK, 3) for number in range(round((high - low) / TICK) + 1)]


def standardised(run: Record, name: str) -> list[float]:
    """The mean scores of the points, in standard deviations of the first one's from its mean."""
    means = [point["scores"][name] for point in run["points"]]
    return [(mean - means[0]) / run["spreads"][name] for mean in means]


if __name__ == "__main__":
    main()
