"""What a stage uses of its records, and how many it cannot use as they are: counted, never silent."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from .chat import Chat
from ..exits import InvalidInput
from .records import Demonstration, Prompt, RankedSlate, drops_too_many, prompt_of, read_prompts
from ..run.directory import RunDirectory

NAMED = 20  # records that a refusal names at most
OF_ONE_RECORD = frozenset({"template_refuses", "control_text"})  # refusals that say nothing about the other records

T = TypeVar("T")
A = TypeVar("A", Demonstration, Prompt, RankedSlate)


@dataclass(frozen=True)
class Intake(Generic[T]):
    """The records that are used, and counts of what else was seen among them, by name.

    too_long  left out whole: the prompt leaves no room for an answer
    refused   left out whole: the model's chat template, or its tokenizer, does not take them
    tied      ranked slates left out: nobody preferred one completion to another
    cut       answers that have no end: it lies beyond the limit
    pairs     of completions of which a person preferred one
    """

    used: list[T]
    counts: Mapping[str, int] = field(default_factory=dict)
    named: Mapping[str, Sequence[str]] = field(default_factory=dict)  # some of the records that a count is about
    reason: str = ""  # why the first of the refused is not taken

    @property
    def left_out(self) -> int:
        """Records that were left out because the model cannot read them."""
        return self.counts.get("too_long", 0) + self.counts.get("refused", 0)

    def metrics(self) -> Mapping[str, float]:
        """What to plot before the first step."""
        return {"data/used": len(self.used)} | {f"data/{name}": count for name, count in self.counts.items()}


def sift(rows: Iterable[A], chat: Chat, max_response: int) -> Intake[A]:
    """The records that the model can read and whose prompt leaves room for an answer, however few they are."""
    kept: list[A] = []
    dropped: dict[str, list[str]] = {"too_long": [], "refused": []}
    reason = ""
    for row in rows:
        try:
            fits = chat.fits(chat.prompt_ids(row.messages), max_response)
            for text in answers_of(row):
                chat.check_answer(text)
        except InvalidInput as refusal:
            if refusal.kind not in OF_ONE_RECORD:
                raise
            dropped["refused"].append(prompt_of(row))
            reason = reason or refusal.numbers.get("says", str(refusal))
            continue
        if fits:
            kept.append(row)
        else:
            dropped["too_long"].append(prompt_of(row))
    counts = {name: len(ids) for name, ids in dropped.items()}
    return Intake(kept, counts, {name: ids[:NAMED] for name, ids in dropped.items()}, reason)


def answers_of(row: Demonstration | Prompt | RankedSlate) -> list[str]:
    """The answers that stand in a record."""
    if isinstance(row, Demonstration):
        return [row.response]
    return [one.text for one in row.completions] if isinstance(row, RankedSlate) else []


def fitting(rows: Iterable[A], chat: Chat, max_response: int, what: str) -> Intake[A]:
    """The records that the model can read. Raises InvalidInput where too few are left, or too many were left out."""
    intake = sift(rows, chat, max_response)
    require_most(intake, what)
    return intake


def fitting_prompts(run: RunDirectory, name: str, chat: Chat, max_response: int) -> Intake[Prompt]:
    """The prompts of these records that the model can read. Raises InvalidInput where it can read too few."""
    return fitting(run.phases.read(name, read_prompts(run.data(name))), chat, max_response, "prompts")


def require_most(intake: Intake[A], what: str) -> None:
    """Raises InvalidInput where nothing is left to use, or so much was left out that it cannot be meant."""
    kept, dropped = len(intake.used), intake.left_out
    if not kept + dropped:
        raise InvalidInput(f"no {what}", kind="nothing_to_learn", what=what)
    if not drops_too_many(kept, dropped):
        return
    counted = {"too_long": "too long for the model", "refused": "refused by its chat template"}
    parts = [f"{intake.counts[name]} {words}" for name, words in counted.items() if intake.counts[name]]
    beginning = f"{dropped} of {kept + dropped} {what} cannot be used" if kept else f"no usable {what}"
    because = f" ({intake.reason})" if intake.reason else ""
    raise InvalidInput(
        f"{beginning}: {', '.join(parts)}{because}",
        kind="left_out",
        records=[*intake.named["too_long"], *intake.named["refused"]][:NAMED],
        what=what,
        of=kept + dropped,
        too_long=intake.counts["too_long"],
        refused=intake.counts["refused"],
    )
