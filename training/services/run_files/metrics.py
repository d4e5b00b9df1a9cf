"""What an engine has measured: the lines of an attempt's metrics.jsonl, read while it may still be writing them."""

from __future__ import annotations

import json
import math
import os
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


class Place(NamedTuple):
    """How far a file was read: which file it was, and the byte at which the next look may start."""

    inode: int
    offset: int


class Look(NamedTuple):
    """The rows from some place on, and the place from which the next look may go on."""

    rows: list[Row]
    place: Place


BEGINNING = Place(0, 0)


def read(attempt: Path, *, since: Place = BEGINNING) -> Look:
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
        return Look([], since)
    whole = [line for line in lines if line.endswith(b"\n")]
    rows = [row for line in whole if (row := _row(line))]
    return Look(rows, Place(about.st_ino, start + sum(map(len, whole))))


def newest(attempt: Path) -> list[Row]:
    """The last rows of a file that may be long; the line that the look begins within counts as torn."""
    try:
        about = (attempt / FILE).stat()
    except OSError:
        return []
    return read(attempt, since=Place(about.st_ino, max(0, about.st_size - TAIL))).rows


def _row(line: bytes) -> Row | None:
    """A line without what is no number: neither a database nor a browser takes NaN as JSON.

    None for a line that a full disk or a lost machine has torn.
    """
    try:
        raw = json.loads(line)
        measured = {name: value for name, value in raw["metrics"].items() if math.isfinite(value)}
        return Row(raw["step"], raw["total"], raw["time"], measured)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
