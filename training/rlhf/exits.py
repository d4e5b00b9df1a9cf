"""How a stage may end other than well. The exit code tells the supervisor what to do next."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

DONE = 0
FIRST_FENCE = "1"  # where nobody supervises
LONGEST_QUOTE = 300  # characters


class EngineExit(Exception):
    """A stage ends here on purpose, with `code` as the exit status.

    `kind` says what happened to whoever looks it up in a table; the sentence is for people and is parsed by nobody.
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
        self.numbers = numbers  # what a sentence about it may tell: counts, limits, names

    def as_json(self) -> dict[str, Any]:
        """What is left for whoever started the engine; empty parts are left out."""
        parts = {"kind": self.kind, "field": self.field, "records": list(self.records), "numbers": self.numbers}
        return {name: part for name, part in parts.items() if part} | {"sentence": str(self)}


class Interrupted(EngineExit):
    """Stopped on request with everything saved: run me again."""

    code = 75
    kind = "interrupted"


class FenceLost(EngineExit):
    """Another attempt owns the run now: nothing more may be written."""

    code = 76
    kind = "fence_lost"


def in_one_line(said: object) -> str:
    """What another program says, short enough to be quoted in a sentence."""
    return " ".join(str(said).split())[:LONGEST_QUOTE]


def current_fence(run_dir: Path) -> str:
    """The attempt that may write now."""
    try:
        return (run_dir / "fence").read_text("utf-8").strip()
    except FileNotFoundError:
        return FIRST_FENCE


class InvalidInput(EngineExit):
    """No retry can help before a person has changed the input."""

    code = 77
    kind = "input"


class NeedsPerson(EngineExit):
    """The machine is not able to go on (disk full): the same run can go on afterwards."""

    code = 78
    kind = "person"


class Diverged(EngineExit):
    """The numbers went wrong; the same input would go wrong again."""

    code = 79
    kind = "diverged"
