"""What a stage uses of its records, and how many it cannot use as they are: counted, never silent."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from .chat import Chat
from .records import Message, Prompt, read_prompts, require_most
from .rundir import RunDirectory


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


def sift(rows: Iterable[A], chat: Chat, max_response: int) -> Intake[A]:
    """The records whose prompt leaves room for an answer, however few they are."""
    kept, too_long = [], 0
    for row in rows:
        if chat.fits(chat.prompt_ids(row.messages), max_response):
            kept.append(row)
        else:
            too_long += 1
    return Intake(kept, {"too_long": too_long})


def fitting(rows: Iterable[A], chat: Chat, max_response: int, what: str) -> Intake[A]:
    """The records whose prompt leaves room for an answer. Raises InvalidInput where too few do."""
    intake = sift(rows, chat, max_response)
    require_most(len(intake.used), intake.counts["too_long"], what)
    return intake


def fitting_prompts(run: RunDirectory, name: str, chat: Chat, max_response: int) -> Intake[Prompt]:
    """The prompts of these records that leave room for an answer. Raises InvalidInput where too few do."""
    return fitting(run.phases.read(name, read_prompts(run.data(name))), chat, max_response, "prompts")
