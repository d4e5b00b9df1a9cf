"""Draws what benchmarks/overoptimisation.py measured: gold, judge and reward against KL, one panel for each round.

Gold is what people would think, in the same unit as the others: standard deviations of the scores of SFT's answers to
these prompts. The ring is the policy that the gauge would publish. Needs matplotlib, which Roundtable does not.

    python benchmarks/overoptimisation.py --work DIR --seeds 10 --shares 0.67 --rounds 3 > rounds.jsonl
    pip install matplotlib && python benchmarks/plot_rounds.py rounds.jsonl docs/images/rounds.svg
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt  # type: ignore[import-not-found]

Record = dict[str, Any]
LINES = {
    "gold": ("gold (what people would think)", "#1b7f4d", "-", "o"),
    "watcher": ("independent judge", "#2454c5", "--", "s"),
    "climbed": ("reward that PPO climbs", "#c2410c", ":", "^"),
}


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    runs = [json.loads(line) for line in source.read_text().splitlines()]
    plt.rcParams.update({"svg.hashsalt": "rounds", "font.size": 10})  # the same figures are the same bytes
    figure, panels = plt.subplots(1, len(runs), figsize=(4.2 * len(runs), 3.6), sharey=True, squeeze=False)
    for run, panel in zip(runs, panels[0], strict=True):
        draw(run, panel)
    panels[0][0].set_ylabel("mean score, standard deviations of SFT's")
    panels[0][-1].legend(frameon=False, fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})


def draw(run: Record, panel: Any) -> None:
    """One round."""
    points = run["points"]
    distance = [max(point["kl"], 0.0) for point in points]
    published = next(n for n, point in enumerate(points) if point["iteration"] == run["published"])
    for name, (label, colour, dash, marker) in LINES.items():
        scores = standardised(run, name)
        panel.plot(distance, scores, label=label, color=colour, linestyle=dash, marker=marker, markersize=3)
        panel.plot(distance[published], scores[published], "o", markersize=11, fillstyle="none", color=colour)
    panel.set_title(f"PPO round {run['round']}, seed {run['seed']}: gold wins {run['wins_published']:.0%}", fontsize=10)
    panel.set_xlabel("KL from SFT, nats per answer")
    panel.grid(alpha=0.25)


def standardised(run: Record, name: str) -> list[float]:
    """The mean scores of the points, in standard deviations of the first one's from its mean."""
    means = [point["scores"][name] for point in run["points"]]
    return [(mean - means[0]) / run["spreads"][name] for mean in means]


if __name__ == "__main__":
    main()
