"""What the engine does outside the numbered steps, told in phase.json for whoever watches.

Reading a large model or writing a checkpoint takes minutes in which no step ends; a page without this would look
dead. A model's bytes are counted while they are hashed: that is when they leave the disk, and the weights are then
built from the system's cache.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeVar

T = TypeVar("T")

Name = Literal["loading", "reading", "working", "saving"]
Unit = Literal["bytes", "items"]

TOLD_EVERY_S = 0.5


class Phases:
    """The phase that an attempt is in. Whatever is counted here is progress, too: `touch` says so."""

    def __init__(self, attempt: Path, touch: Callable[[], None]) -> None:
        self._file = attempt / "phase.json"
        self._touch = touch
        self._name: Name = "working"
        self._what = ""
        self._done = 0
        self._total: int | None = None
        self._unit: Unit | None = None
        self._told_at = 0.0

    def enter(
        self, name: Name, what: str, *, done: int = 0, total: int | None = None, unit: Unit | None = None
    ) -> None:
        """From now on the engine does this to `what`; `done` of `total` is behind it."""
        self._name, self._what = name, what
        self._done, self._total, self._unit = done, total, unit
        self._tell()

    def advance(self, amount: int = 1) -> None:
        """So many more bytes or items are done."""
        self._done += amount
        if self._done == self._total or time.monotonic() - self._told_at >= TOLD_EVERY_S:
            self._tell()

    def read(self, what: str, rows: Sequence[T]) -> Iterator[T]:
        """The rows one by one, as a phase that counts them."""
        self.enter("reading", what, total=len(rows), unit="items")
        for row in rows:
            yield row
            self.advance()

    def _tell(self) -> None:
        phase = {"name": self._name, "what": self._what, "done": self._done, "total": self._total, "unit": self._unit}
        draft = self._file.with_suffix(".draft")
        draft.write_text(json.dumps(phase), "utf-8")
        draft.replace(self._file)
        self._told_at = time.monotonic()
        self._touch()
