"""Paces: how fast a run goes, by the times that its engine wrote beside its steps.

Only what the newest attempt did itself counts. It takes over the lines of the attempts before it, and between those
and its own may lie a night.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from training.models import Run
from training.services import environments, vitals

TAIL = 64_000  # bytes: the newest lines say how fast it goes now


class Pace(NamedTuple):
    """How long a step takes, and how far the run is."""

    of_step: timedelta
    step: int
    total: int

    @property
    def left(self) -> timedelta:
        return self.of_step * max(0, self.total - self.step)


class _Mark(NamedTuple):
    """One line: the step that was done, of how many, and when."""

    step: int
    total: int
    time: float


def of(run: Run) -> Pace | None:
    """The pace of the newest attempt that has said anything; None while it has done no step of its own."""
    folder = vitals.newest_attempt(run, "metrics.jsonl")
    if folder is None:
        return None
    marks, started = _marks(folder / "metrics.jsonl"), _started(folder)
    own = [mark for mark in marks if mark.time >= started]
    if not own:
        return None
    inherited = [mark for mark in marks if mark.time < started]
    first = inherited[-1]._replace(time=started) if inherited else own[0]
    last = own[-1]
    if last.step <= first.step or last.time < first.time:  # a clock may have been set
        return None
    return Pace(timedelta(seconds=(last.time - first.time) / (last.step - first.step)), last.step, last.total)


def _started(folder: Path) -> float:
    """When the attempt began, by the first file that is written for it; 0 where there is none."""
    try:
        return (folder / environments.FILE).stat().st_mtime
    except OSError:
        return 0.0


def _marks(path: Path) -> list[_Mark]:
    """The newest lines of a file that is still being written."""
    try:
        with path.open("rb") as file:
            start = file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            lines = file.read().split(b"\n")[1 if start else 0 : -1]
    except OSError:
        return []
    return [mark for line in lines if (mark := _mark(line))]


def _mark(line: bytes) -> _Mark | None:
    """A line; None for one that a full disk has torn."""
    try:
        raw = json.loads(line)
        return _Mark(raw["step"], raw["total"], raw["time"])
    except (ValueError, KeyError, TypeError):
        return None
