"""What a stage uses of its records, and how many it cannot use as they are: counted, never silent."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from .chat import Chat
from .records import Message, require_most


class Asked(Protocol):
    """A record with a prompt."""

    @property
    def messages(self) -> list[Message]: ...


T = TypeVar("T")
A = TypeVar("A", bound=Asked)


@dataclass(frozen=True)
class Intake(Generic[T]):
    """The records that are used, and counts of what else was seen among them, by name.

    too_long  left out whole: the prompt leaves no room for an answer
    tied      ranked slates left out: nobody preferred one completion to another
    cut       answers that have no end: it lies beyond the limit
    pairs     of completions of which a person preferred one
    """

    used: list[T]
    counts: Mapping[str, int] = field(default_factory=dict)

    def metrics(self) -> Mapping[str, float]:
        """What to plot before the first step."""
        return {"data/used": len(self.used)} | {f"data/{name}": count for name, count in self.counts.items()}


def fitting(rows: Iterable[A], chat: Chat, max_response: int, what: str) -> Intake[A]:
    """The records whose prompt leaves room for an answer. Raises InvalidInput where too few do."""
    kept, too_long = [], 0
    for row in rows:
        if chat.fits(chat.prompt_ids(row.messages), max_response):
            kept.append(row)
        else:
            too_long += 1
    require_most(len(kept), too_long, what)
    return Intake(kept, {"too_long": too_long})
