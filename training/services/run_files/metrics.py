"""What an engine has measured, and how fast it goes: the lines of an attempt's metrics.jsonl.

They are read while the engine may still be writing them.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

FILE = "metrics.jsonl"
TAIL = 64_000  # bytes: some hundred lines, which say how fast it goes now


class Row(NamedTuple):
    """What was measured after one step, of how many, and when (in seconds since the epoch)."""

    step: int
    total: int
    time: float
    metrics: dict[str, float]


class Position(NamedTuple):
    """How far a file was read: which file it was, and the byte at which to go on."""

    inode: int
    offset: int


class Chunk(NamedTuple):
    """The rows from some position on, and the position after them."""

    rows: list[Row]
    end: Position


class Pace(NamedTuple):
    """How long a step takes, and how far the run is."""

    of_step: timedelta
    step: int
    total: int

    @property
    def left(self) -> timedelta:
        return self.of_step * max(0, self.total - self.step)


BEGINNING = Position(0, 0)


def read(attempt: Path, *, since: Position = BEGINNING) -> Chunk:
    """What `attempt` has measured since then; a line that is still being written waits.

    All of it where the file is another one by now: an engine that goes back to a checkpoint writes a shorter one.
    """
    try:
        with (attempt / FILE).open("rb") as file:
            about = os.fstat(file.fileno())
            goes_on = about.st_ino == since.inode and about.st_size >= since.offset
            start = file.seek(since.offset if goes_on else 0)
            lines = file.read().splitlines(keepends=True)
    except OSError:
        return Chunk([], since)
    whole = [line for line in lines if line.endswith(b"\n")]
    rows = [row for line in whole if (row := _row(line))]
    return Chunk(rows, Position(about.st_ino, start + sum(map(len, whole))))


def newest(attempt: Path) -> list[Row]:
    """The last rows of a file that may be long; the line within which reading starts is left out."""
    try:
        about = (attempt / FILE).stat()
    except OSError:
        return []
    return read(attempt, since=Position(about.st_ino, max(0, about.st_size - TAIL))).rows


def measure_pace(rows: Sequence[Row], *, began: float) -> Pace | None:
    """The pace of an attempt that began at `began`, seconds since the epoch; None where it has done no step of its own.

    What it took over from the attempts before it does not count: between those and its own steps may lie a night.
    """
    own = [row for row in rows if row.time >= began]
    if not own:
        return None
    inherited = [row for row in rows if row.time < began]
    first, last = inherited[-1]._replace(time=began) if inherited else own[0], own[-1]
    if last.step <= first.step or last.time < first.time:  # a clock may have been set
        return None
    return Pace(timedelta(seconds=(last.time - first.time) / (last.step - first.step)), last.step, last.total)


def _row(line: bytes) -> Row | None:
    """A line without what is no number: neither a database nor a browser takes NaN as JSON.

    None for a line that was cut off, as by a full disk or a lost machine.
    """
    try:
        raw = json.loads(line)
        measured = {name: value for name, value in raw["metrics"].items() if math.isfinite(value)}
        return Row(raw["step"], raw["total"], raw["time"], measured)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
