"""What an examination of a base model finds: a kind that pages look up, and a sentence for the log.

The levels are those of every examination. Imports no torch, because the pages know them, too.
"""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..exits import InvalidInput

BLOCK, WARN, NOTE = LEVELS = ("block", "warn", "note")  # the gravest first


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One fact about a model folder; a `block` is a reason why it cannot be used."""

    level: str
    kind: str
    sentence: str
    field: str = ""  # the file, or the field of a config, that it is about
    numbers: dict[str, Any] = dataclasses.field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """As it stands in the report; empty parts are left out."""
        parts = {"field": self.field, "numbers": self.numbers}
        present = {name: part for name, part in parts.items() if part}
        return {"level": self.level, "kind": self.kind, **present, "sentence": self.sentence}

    def refusal(self) -> InvalidInput:
        """The finding as an error."""
        return InvalidInput(self.sentence, kind=self.kind, field=self.field, **self.numbers)


def block(sentence: str, *, kind: str, field: str = "", **numbers: Any) -> Finding:
    """A finding for which a model is refused."""
    return Finding(level=BLOCK, kind=kind, sentence=sentence, field=field, numbers=numbers)


class Findings(list[Finding]):
    """All findings of an examination, in its order."""

    @property
    def blocks(self) -> list[Finding]:
        """Those for which a model is refused."""
        return [one for one in self if one.level == BLOCK]

    def note(self, sentence: str, *, kind: str, level: str = NOTE, **numbers: Any) -> None:
        """Add a finding for which nothing is refused."""
        self.append(Finding(level=level, kind=kind, sentence=sentence, numbers=numbers))

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Turns an InvalidInput inside into a finding, added once, and lets the examination go on."""
        try:
            yield
        except InvalidInput as refusal:
            found = block(str(refusal), kind=refusal.kind, field=refusal.field, **refusal.numbers)
            if found not in self:  # the same file may be read twice
                self.append(found)
