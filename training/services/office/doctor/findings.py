"""What a check reports: one sentence of what is wrong, one of how to mend it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import NamedTuple

LARGEST_SKEW_S = 5.0  # between two clocks, before it is a finding


class Level(StrEnum):
    WRONG = "wrong"
    NOTE = "note"  # worth knowing, but nothing fails because of it


class Finding(NamedTuple):
    """One thing that a check has found."""

    about: str  # what is wrong: "disk", "workers"
    fault: str
    remedy: str
    level: Level = Level.WRONG


Check = Callable[[], Iterator[Finding]]
