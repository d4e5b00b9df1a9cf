"""Which of its records a stage can use. Those that it cannot are counted, never dropped silently."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from ..exits import InvalidInput
from .chat import Chat, Rendered
from .records import Demonstration, Prompt, RankedSlate, drops_too_many, prompt_of, read_prompts

if TYPE_CHECKING:
    from ..run.directory import RunDirectory

NAMED = 20  # ids of records in a refusal, at most
OF_ONE_RECORD = frozenset({"template_refuses", "control_text"})  # refusals that say nothing about the other records

T = TypeVar("T")
A = TypeVar("A", Demonstration, Prompt, RankedSlate)


@dataclass(frozen=True)
class FilteredRecords(Generic[T]):
    """The records that a stage uses, and counts of others and of properties, by name.

    too_long  left out whole: the prompt leaves no room for an answer
    refused   left out whole: the model's chat template, or its tokenizer, does not accept them
    tied      ranked slates left out: nobody preferred one completion to another
    cut       answers that have no end: it lies beyond the limit
    pairs     of completions of which a person preferred one
    """

    used: list[T]
    counts: Mapping[str, int] = field(default_factory=dict)
    named: Mapping[str, Sequence[str]] = field(default_factory=dict)  # ids of some of the records that were counted
    reason: str = ""  # why the first of the refused was refused

    @property
    def left_out(self) -> int:
        """Records that were left out because the model cannot read them."""
        return self.counts.get("too_long", 0) + self.counts.get("refused", 0)

    def metrics(self) -> Mapping[str, float]:
        """What to plot before the first step."""
        return {"data/used": len(self.used)} | {f"data/{name}": count for name, count in self.counts.items()}


def filter_records(rows: Iterable[A], chat: Chat, max_response: int) -> FilteredRecords[A]:
    """The records that the model can read and whose prompt leaves room for an answer, even if there are none."""
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
    return FilteredRecords(kept, counts, {name: ids[:NAMED] for name, ids in dropped.items()}, reason)


def answers_of(row: Demonstration | Prompt | RankedSlate) -> list[str]:
    """The answers in a record."""
    if isinstance(row, Demonstration):
        return [row.response]
    return [one.text for one in row.completions] if isinstance(row, RankedSlate) else []


def cut_to_length(filtered: FilteredRecords[Demonstration], chat: Chat, max_response: int) -> FilteredRecords[Rendered]:
    """Demonstrations that fit, as ids. An answer of more than `max_response` tokens is cut and has no end to learn."""
    whole = [chat.rendered(one.messages, one.response, stopped=True) for one in filtered.used]
    samples = [Rendered(one.prompt, one.response[:max_response]) for one in whole]
    # Length does not show it: where the prompt leaves no more room, the context has cut the answer already.
    cut = sum(one.response[-1] != chat.eos_id for one in samples)
    return FilteredRecords(samples, {**filtered.counts, "cut": cut})


def usable_records(rows: Iterable[A], chat: Chat, max_response: int, what: str) -> FilteredRecords[A]:
    """The records that the model can read. Raises InvalidInput where none are left or too many were left out."""
    filtered = filter_records(rows, chat, max_response)
    require_enough(filtered, what)
    return filtered


def some_records(rows: Iterable[A], chat: Chat, max_response: int, what: str) -> FilteredRecords[A]:
    """The records that the model can read, however many others there are. Raises InvalidInput where there are none."""
    filtered = filter_records(rows, chat, max_response)
    if not filtered.used:
        require_enough(filtered, what)
    return filtered


def usable_prompts(run: "RunDirectory", name: str, chat: Chat, max_response: int) -> FilteredRecords[Prompt]:
    """The prompts of a run's file `name` that the model can read. Raises InvalidInput, as `usable_records` does."""
    return usable_records(run.phases.read(name, read_prompts(run.data(name))), chat, max_response, "prompts")


def require_enough(filtered: FilteredRecords[A], what: str) -> None:
    """Raises InvalidInput where there is nothing to use, or where `drops_too_many` of the records."""
    kept, dropped = len(filtered.used), filtered.left_out
    if not kept + dropped:
        raise InvalidInput(f"no {what}", kind="nothing_to_learn", what=what)
    if not drops_too_many(kept, dropped):
        return
    counted = {
        "too_long": ("leaves", "leave", "no room for an answer of max_response tokens in the model's context"),
        "refused": ("is", "are", "rejected by the model's chat template or tokenizer"),
    }
    parts = [
        f"{number} {one if number == 1 else several} {words}"
        for name, (one, several, words) in counted.items()
        if (number := filtered.counts[name])
    ]
    beginning = f"{dropped} of {kept + dropped} {what} cannot be used" if kept else f"no usable {what}"
    because = f" ({filtered.reason})" if filtered.reason else ""
    raise InvalidInput(
        f"{beginning}: {', '.join(parts)}{because}",
        kind="left_out",
        records=[*filtered.named["too_long"], *filtered.named["refused"]][:NAMED],
        what=what,
        of=kept + dropped,
        too_long=filtered.counts["too_long"],
        refused=filtered.counts["refused"],
    )
