"""Exceptions by which a stage ends on purpose. Their exit codes tell the supervisor what to do next.

Imports no torch, because the supervisor reads these codes, and which attempt may write (`current_fence`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

DONE = 0
NOT_REPRODUCED = 80  # of the command `reproduce`: the stage ended well, with other bytes
FIRST_FENCE = "1"  # of a run without a supervisor
LONGEST_QUOTE = 300  # characters


class EngineExit(Exception):
    """A stage ends here on purpose, with `code` as the exit status.

    The platform looks `kind` up in a table of explanations; the sentence is for the log and is never parsed.
    """

    code: int
    kind = "unknown"

    def __init__(
        self, sentence: str, *, kind: str = "", field: str = "", records: Sequence[str] = (), **numbers: Any
    ) -> None:
        super().__init__(sentence)
        self.kind = kind or type(self).kind
        self.field = field  # of the config, the request or the record that is refused
        self.records = tuple(records)  # ids of the records concerned
        self.numbers = numbers  # what an explanation may use: counts, limits, names

    def as_json(self) -> dict[str, Any]:
        """The content of ending.json; empty parts are left out."""
        parts = {"kind": self.kind, "field": self.field, "records": list(self.records), "numbers": self.numbers}
        return {name: part for name, part in parts.items() if part} | {"sentence": str(self)}


class Interrupted(EngineExit):
    """Stopped on request with everything saved: the run can be resumed."""

    code = 75
    kind = "interrupted"


class FenceLost(EngineExit):
    """Another attempt owns the run now: nothing more may be written."""

    code = 76
    kind = "fence_lost"


class InvalidInput(EngineExit):
    """A retry fails until a person has changed the input."""

    code = 77
    kind = "input"


class NeedsPerson(EngineExit):
    """The machine cannot continue (disk full); once a person has helped, the same run can."""

    code = 78
    kind = "person"


class Diverged(EngineExit):
    """Numbers are not finite or not believable; the same input would fail again."""

    code = 79
    kind = "diverged"


class RankLost(Exception):
    """Another process of the run has ended, so this one cannot go on. Why, only the other one knows."""


def in_one_line(message: object) -> str:
    """Another program's message, short enough to be quoted in a sentence."""
    return " ".join(str(message).split())[:LONGEST_QUOTE]


def current_fence(run_dir: Path) -> str:
    """The attempt that may write now."""
    try:
        return (run_dir / "fence").read_text("utf-8").strip()
    except FileNotFoundError:
        return FIRST_FENCE
