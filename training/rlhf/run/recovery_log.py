"""setbacks.json: what went wrong in a run and was recovered from without a person. Every later attempt inherits it.

A recovery is tried once in the life of a run, even if the attempt is killed afterwards, so this file decides. Imports
no torch, because the supervisor adds what the engine cannot: that the kernel killed it for want of memory.
"""

import json
from pathlib import Path
from typing import Literal, NamedTuple

from ..json_files import write_json

Kind = Literal["not_finite", "out_of_memory", "damaged_checkpoint"]

FILE = "setbacks.json"


class Recovery(NamedTuple):
    """One entry. `step`: the last that was done, or that of the damaged checkpoint; `text`: for people."""

    kind: Kind
    step: int
    text: str


class RecoveryLog:
    """All recoveries of a run so far, kept in the folder of the newest attempt.

    Of several processes, one `keeps` what it finds there; whichever a fault has struck adds to it.
    """

    def __init__(self, attempt: Path, *, keeps: bool = True) -> None:
        self._file = attempt / FILE
        # Each attempt begins with the entries of those before it, so the longest list is the complete one.
        self._entries = max((_read(path) for path in attempt.parent.glob(f"*/{FILE}")), key=len, default=[])
        if self._entries and keeps:
            self._write()

    @property
    def entries(self) -> tuple[Recovery, ...]:
        """All of them, the oldest first."""
        return tuple(self._entries)

    def has(self, kind: Kind) -> bool:
        """Whether there is an entry of this kind."""
        return any(entry.kind == kind for entry in self._entries)

    def add(self, recovery: Recovery) -> None:
        """Add an entry, unless it is there already: a kill may come between the entry and what it records."""
        if recovery not in self._entries:
            self._entries.append(recovery)
            self._write()

    def _write(self) -> None:
        write_json(self._file, [entry._asdict() for entry in self._entries], indent=1)


def _read(path: Path) -> list[Recovery]:
    try:
        return [Recovery(**row) for row in json.loads(path.read_text("utf-8"))]
    except (ValueError, TypeError):  # a machine that lost its power left half of it
        return []
