"""What went wrong on the way and was mended without a person: setbacks.json, which every later attempt inherits.

A remedy is taken once in the life of a run, whatever kills it in between: so what was done is read from here.
"""

import json
from pathlib import Path
from typing import Literal, NamedTuple

Kind = Literal["not_finite", "out_of_memory", "damaged_checkpoint"]

FILE = "setbacks.json"


class Setback(NamedTuple):
    """One of them. `step`: the last that was done, or that of the damaged checkpoint; `text`: for people."""

    kind: Kind
    step: int
    text: str


class Setbacks:
    """All setbacks of a run so far, kept in the folder of the newest attempt."""

    def __init__(self, attempt: Path) -> None:
        self._file = attempt / FILE
        # Each attempt begins with what those before it knew, so the longest list is the whole one.
        self._all = max((_read(path) for path in attempt.parent.glob(f"*/{FILE}")), key=len, default=[])
        if self._all:
            self._write()

    def had(self, kind: Kind) -> bool:
        """Whether there was one of this kind."""
        return any(one.kind == kind for one in self._all)

    def note(self, setback: Setback) -> None:
        """Add one; what was noted just before a kill is not noted again after it."""
        if setback not in self._all:
            self._all.append(setback)
            self._write()

    def _write(self) -> None:
        draft = self._file.with_suffix(".draft")
        draft.write_text(json.dumps([one._asdict() for one in self._all], indent=1), "utf-8")
        draft.replace(self._file)


def _read(path: Path) -> list[Setback]:
    try:
        return [Setback(**row) for row in json.loads(path.read_text("utf-8"))]
    except (ValueError, TypeError):  # a machine that lost its power left half of it
        return []
