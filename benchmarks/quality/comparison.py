"""Gold at a given KL from SFT, on both sides of benchmarks/ppo_quality.py, and whether ours is the worse one."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import sqrt
from statistics import fmean, stdev
from typing import Any, NamedTuple

from benchmarks.quality.judging import Point
from benchmarks.quality.trajectories import OURS, Trajectory

NATS = (1.0, 2.0, 4.0)  # per answer
ALLOWED = 2  # standard errors by which ours may be lower

Record = dict[str, Any]


class Crossing(NamedTuple):
    """Where a trajectory first reaches a KL: linear between the points before and after, in KL."""

    gold: list[float]  # of each held-out prompt
    wins: float
    iteration: float


def crossing(points: Sequence[Point], nats: float) -> Crossing | None:
    """The crossing of `nats`; None where the trajectory does not go as far."""
    for before, after in pairwise(points):
        if before.kl < nats <= after.kl:
            share = (nats - before.kl) / (after.kl - before.kl)
            return Crossing(
                gold=[between(*both, share) for both in zip(before.gold, after.gold, strict=True)],
                wins=between(before.wins, after.wins, share),
                iteration=between(before.iteration, after.iteration, share),
            )
    return None


def between(before: float, after: float, share: float) -> float:
    """The number at this share of the way."""
    return before + share * (after - before)


def compared(trajectories: Iterable[Trajectory], beta: float, nats: float, peer: str) -> Record:
    """One line: both sides at this KL, with the same penalty, over the seeds on which both get there.

    `difference` is ours minus theirs, in gold utility. Its standard error over prompts takes the mean of the seeds at
    each prompt, that over seeds the mean of the prompts on each seed.
    """
    found = {
        (one.side, one.seed): crossing(one.points, nats)
        for one in trajectories
        if one.beta == beta and one.side in (OURS, peer)
    }
    line: Record = {"beta": beta, "nats": nats, "peer": peer}
    for side, name in ((OURS, "ours_reaches"), (peer, "peer_reaches")):
        line[name] = sorted(seed for (of, seed), at in found.items() if of == side and at)
    seeds = [seed for seed in line["ours_reaches"] if seed in line["peer_reaches"]]
    pairs = [(found[OURS, seed], found[peer, seed]) for seed in seeds]
    both = [(one, other) for one, other in pairs if one and other]
    return line | (figures(both) if both else {})


def figures(pairs: Sequence[tuple[Crossing, Crossing]]) -> Record:
    """Means over the seeds, and the difference with its errors; None where there is one seed or prompt only."""
    gaps = [[a - b for a, b in zip(one.gold, other.gold, strict=True)] for one, other in pairs]
    of_seeds = [fmean(gap) for gap in gaps]
    of_prompts = [fmean(gap) for gap in zip(*gaps, strict=True)]
    line: Record = {"difference": fmean(of_seeds), "by_seed": of_seeds}
    line |= {"error_of_seeds": error(of_seeds), "error_of_prompts": error(of_prompts)}
    for name, side in (("ours", [one for one, _ in pairs]), ("theirs", [other for _, other in pairs])):
        golds = [fmean(at.gold) for at in side]
        line |= {f"{name}_gold": fmean(golds), f"{name}_gold_error": error(golds)}
        line |= {f"{name}_wins": fmean(at.wins for at in side), f"{name}_wins_error": error([at.wins for at in side])}
        line[f"{name}_iteration"] = fmean(at.iteration for at in side)
    # The smaller error is the stricter one.
    errors = [one for one in (line["error_of_seeds"], line["error_of_prompts"]) if one is not None]
    line["not_worse"] = line["difference"] >= -ALLOWED * min(errors) if len(pairs) > 1 else None
    return line


def error(values: Sequence[float]) -> float | None:
    """The standard error of their mean."""
    return stdev(values) / sqrt(len(values)) if len(values) > 1 else None


def verdicts(lines: Sequence[Record], seeds: int) -> list[Record]:
    """For each KL: TRL's better number of epochs, at the strongest penalty with which both sides get there everywhere.

    Among the numbers of epochs the one with more gold is compared. Without such a line, `not_worse` is None.
    """
    chosen = []
    for nats in sorted({line["nats"] for line in lines}):
        complete = [line for line in lines if line["nats"] == nats and len(line.get("by_seed", [])) == seeds]
        if complete:
            beta = max(line["beta"] for line in complete)
            at_beta = [line for line in complete if line["beta"] == beta]
            chosen.append(max(at_beta, key=lambda line: line["theirs_gold"]))
        else:
            chosen.append({"nats": nats, "not_worse": None})
    return chosen


def table(lines: Sequence[Record]) -> list[str]:
    """The lines as Markdown, for people."""
    heads = ["KL, nats", "beta", "TRL epochs", "gold, ours", "gold, TRL", "difference", "± seeds", "± prompts"]
    heads += ["wins, ours", "wins, TRL", "iteration, ours", "iteration, TRL", "seeds", "not worse"]
    rows = [heads, ["---"] * len(heads)]
    for line in lines:
        cells = [line["nats"], line.get("beta"), line.get("peer", "").removeprefix("trl-")]
        cells += [line.get(name) for name in ("ours_gold", "theirs_gold", "difference", "error_of_seeds")]
        cells += [line.get(name) for name in ("error_of_prompts", "ours_wins", "theirs_wins")]
        cells += [line.get(name) for name in ("ours_iteration", "theirs_iteration")]
        cells += [reached(line), {True: "yes", False: "no", None: "-"}[line.get("not_worse")]]
        rows.append([cell(one) for one in cells])
    return [f"| {' | '.join(row)} |" for row in rows]


def reached(line: Record) -> str:
    """On how many seeds each side gets there."""
    return f"{len(line.get('ours_reaches', []))} and {len(line.get('peer_reaches', []))}"


def cell(value: Any) -> str:
    """A number with as many digits as it deserves."""
    if isinstance(value, float):
        return f"{value:.1f}" if value >= 10 else f"{value:.3f}".rstrip("0").rstrip(".")
    return "-" if value is None else str(value)
