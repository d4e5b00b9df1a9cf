"""phase.json: what the engine does between the numbered steps, for the pages that show a run.

Reading a large model or writing a checkpoint takes minutes in which no step ends, and a page would look dead. A model's
bytes are counted while they are hashed: that is when they leave the disk, and the weights are then built from the
system's cache.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from ..json_files import write_json

T = TypeVar("T")

Name = Literal["loading", "reading", "working", "saving"]
Unit = Literal["bytes", "items"]

WRITE_EVERY_S = 0.5


class Phases:
    """The phase that an attempt is in. What is counted here is also reported as progress."""

    def __init__(self, attempt: Path, report_progress: Callable[[], None], *, writes: bool = True) -> None:
        self._writes = writes
        self._file = attempt / "phase.json"
        self._report_progress = report_progress
        self._name: Name = "working"
        self._what = ""
        self._done = 0
        self._total: int | None = None
        self._unit: Unit | None = None
        self._written_at = 0.0

    def enter(
        self, name: Name, what: str, *, done: int = 0, total: int | None = None, unit: Unit | None = None
    ) -> None:
        """Begin a phase: the engine does `name` to `what`, of which `done` of `total` is finished."""
        self._name, self._what = name, what
        self._done, self._total, self._unit = done, total, unit
        self._write()

    def advance(self, amount: int = 1) -> None:
        """`amount` more bytes or items are done."""
        self._done += amount
        if self._done == self._total or time.monotonic() - self._written_at >= WRITE_EVERY_S:
            self._write()

    def read(self, what: str, rows: Sequence[T]) -> Iterator[T]:
        """The rows one by one, as a phase that counts them."""
        self.enter("reading", what, total=len(rows), unit="items")
        for row in rows:
            yield row
            self.advance()

    def _write(self) -> None:
        phase = {"name": self._name, "what": self._what, "done": self._done, "total": self._total, "unit": self._unit}
        if self._writes:
            write_json(self._file, phase)
        self._written_at = time.monotonic()
        self._report_progress()
