"""Paces: how fast a run goes, by the times that its engine wrote beside its steps.

Only what the newest attempt did itself counts. It takes over the lines of the attempts before it, and between those
and its own may lie a night.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from training.models import Run
from training.services.run_files import attempts, environment, metrics


class Pace(NamedTuple):
    """How long a step takes, and how far the run is."""

    of_step: timedelta
    step: int
    total: int

    @property
    def left(self) -> timedelta:
        return self.of_step * max(0, self.total - self.step)


def measure(run: Run) -> Pace | None:
    """The pace of the newest attempt that has said anything; None while it has done no step of its own."""
    folder = attempts.newest_attempt(run, metrics.FILE)
    if folder is None:
        return None
    rows, started = metrics.newest(folder), _started(folder)
    own = [row for row in rows if row.time >= started]
    if not own:
        return None
    inherited = [row for row in rows if row.time < started]
    first = inherited[-1]._replace(time=started) if inherited else own[0]
    last = own[-1]
    if last.step <= first.step or last.time < first.time:  # a clock may have been set
        return None
    return Pace(timedelta(seconds=(last.time - first.time) / (last.step - first.step)), last.step, last.total)


def _started(folder: Path) -> float:
    """When the attempt began, by the first file that is written for it; 0 where there is none."""
    try:
        return (folder / environment.FILE).stat().st_mtime
    except OSError:
        return 0.0
