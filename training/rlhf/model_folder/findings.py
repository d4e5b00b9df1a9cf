"""What an examination of a base model has to say: whole sentences for people, and a kind for whoever looks it up."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..exits import InvalidInput

BLOCK, WARN, NOTE = "block", "warn", "note"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One fact about a model; a `block` says why it cannot be used."""

    level: str
    kind: str
    sentence: str
    field: str = ""  # the file, or the field of a config, that it is about
    numbers: dict[str, Any] = dataclasses.field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """As it is reported; empty parts are left out."""
        parts = {"field": self.field, "numbers": self.numbers}
        told = {name: part for name, part in parts.items() if part}
        return {"level": self.level, "kind": self.kind, **told, "sentence": self.sentence}

    def refusal(self) -> InvalidInput:
        """The same as an error."""
        return InvalidInput(self.sentence, kind=self.kind, field=self.field, **self.numbers)


def block(sentence: str, *, kind: str, field: str = "", **numbers: Any) -> Finding:
    """A finding for which a model is refused."""
    return Finding(level=BLOCK, kind=kind, sentence=sentence, field=field, numbers=numbers)


class Findings(list[Finding]):
    """All that was found, in the order in which it was looked for."""

    @property
    def blocks(self) -> list[Finding]:
        """Those for which a model is refused."""
        return [one for one in self if one.level == BLOCK]

    def note(self, sentence: str, *, kind: str, level: str = NOTE, **numbers: Any) -> None:
        """Add what refuses nothing."""
        self.append(Finding(level=level, kind=kind, sentence=sentence, numbers=numbers))

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """What is refused inside is added once, and the examination goes on."""
        try:
            yield
        except InvalidInput as refusal:
            found = block(str(refusal), kind=refusal.kind, field=refusal.field, **refusal.numbers)
            if found not in self:  # another look at the same file
                self.append(found)
