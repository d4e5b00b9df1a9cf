"""The JSON lines that go into a run and come out of it. Imports no torch.

Reading is strict: an unknown, missing or ill-typed field is an InvalidInput that names file and line, because a
label that is misread spoils training without an error.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..exits import InvalidInput

T = TypeVar("T")
Message = dict[str, str]  # {"role", "content"}
Places = Sequence[int | None]  # of the completions of a slate, by one person

ROLES = ("system", "user", "assistant")
FINISHES = ("stop", "length")
DROP_LIMIT = 0.05  # share of the records that may be unusable before a person has to decide


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A conversation that ends with a user turn."""

    id: str
    messages: list[Message]


@dataclass(frozen=True, kw_only=True)
class Demonstration:
    """An answer that a person wrote."""

    id: str
    messages: list[Message]
    response: str


@dataclass(frozen=True, kw_only=True)
class Completion:
    """An answer to be judged."""

    text: str
    finish_reason: str

    @property
    def stopped(self) -> bool:
        """It ended by itself, not because it ran out of tokens."""
        return self.finish_reason == "stop"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """One person's places for the completions of a slate: 1 is best, equal is a tie, None could not be judged."""

    id: str
    annotator: str
    round: int | None
    places: list[int | None]


@dataclass(frozen=True, kw_only=True)
class RankedSlate:
    """The completions of one prompt, and people's judgements of them."""

    slate_id: str
    prompt_id: str
    messages: list[Message]
    completions: list[Completion]
    judgements: list[Judgement]


@dataclass(frozen=True, kw_only=True)
class SampledCompletion:
    """A completion as the engine writes it."""

    prompt_id: str
    index: int  # among the completions of this prompt
    policy: str  # the parent role that wrote it
    text: str
    n_tokens: int
    logprob: float  # nats, of the whole answer
    reward: float | None
    finish_reason: str
    kl: float | None = None  # nats from the reference, of the whole answer, where that was measured
    watcher: float | None = None  # what the watcher gives it, where there is one


@dataclass(frozen=True, kw_only=True)
class ShownSample:
    """An answer that PPO trained on, with the reference's answer, for people to read."""

    prompt_id: str
    messages: list[Message]
    text: str
    n_tokens: int
    finish_reason: str
    reward: float | None  # None where it is no finite number, here and below
    kl: float | None  # nats that the whole answer has diverged from the reference
    reference_text: str
    reference_reward: float | None


@dataclass(frozen=True, kw_only=True)
class Document:
    """Something to pretrain on: plain text, or a conversation that ends with an answer."""

    text: str | None
    messages: list[Message]

    def texts(self) -> list[str]:
        """The texts in it."""
        return [message["content"] for message in self.messages] if self.text is None else [self.text]


def read_prompts(path: Path) -> list[Prompt]:
    """The prompts of a file. Raises InvalidInput."""
    return _unique(_read(path, _prompt), lambda prompt: prompt.id, path)


def read_demonstrations(path: Path) -> list[Demonstration]:
    """The demonstrations of a file. Raises InvalidInput."""
    return _unique(_read(path, _demonstration), lambda demonstration: demonstration.id, path)


def read_rankings(path: Path) -> list[RankedSlate]:
    """The ranked slates of a file. Raises InvalidInput."""
    return _unique(_read(path, _ranked_slate), lambda slate: slate.slate_id, path)


def read_corpus(path: Path) -> list[Document]:
    """The documents of a corpus. Raises InvalidInput."""
    return list(_read(path, _document))


def read_completions(path: Path) -> list[SampledCompletion]:
    """The completions that a stage wrote. Raises InvalidInput."""
    return list(_read(path, _sampled_completion))


def write(path: Path, rows: Iterable[Any]) -> None:
    """One JSON object a line for each of the dataclasses `rows`."""
    with path.open("w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(dataclasses.asdict(row), ensure_ascii=False) + "\n")


def prompt_of(row: Prompt | Demonstration | RankedSlate) -> str:
    """The id by which a record is shown to people: that of its prompt; a demonstration has only its own."""
    return row.prompt_id if isinstance(row, RankedSlate) else row.id


def untied_pairs(places: Places) -> list[tuple[int, int]]:
    """The (better, worse) pairs of one judgement. Ties and "cannot judge" (None) give none."""
    placed = [(place, index) for index, place in enumerate(places) if place is not None]
    return [(better, worse) for place, better in placed for other, worse in placed if place < other]


def drops_too_many(kept: int, dropped: int) -> bool:
    """Whether too many records are unusable: all of them, or more than one and more than DROP_LIMIT of them."""
    return not kept or dropped > max(1, DROP_LIMIT * (kept + dropped))


class _Fields:
    """The fields of one JSON object, each taken once and checked; what is left over is an error."""

    def __init__(self, raw: object) -> None:
        if not isinstance(raw, dict):
            raise ValueError("expected an object")
        self.left: dict[str, object] = dict(raw)

    def take(self, name: str) -> object:
        if name not in self.left:
            raise ValueError(f"{name} is missing")
        return self.left.pop(name)

    def typed(self, name: str, kind: type[T]) -> T:
        value = self.take(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"{name} cannot be {value!r}")
        if kind is str:
            str(value).encode()  # a ValueError for half of a character, which JSON can spell and which is no text
        return value

    def identifier(self, name: str) -> str:
        value = self.take(name)
        if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
            raise ValueError(f"{name} cannot be {value!r}")
        return str(value)

    def items(self, name: str, parse: Callable[["_Fields"], T]) -> list[T]:
        return [_parse_whole(entry, parse) for entry in self.typed(name, list)]

    def choice(self, name: str, allowed: tuple[str, ...]) -> str:
        value = self.typed(name, str)
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")
        return value

    def messages(self, last: str) -> list[Message]:
        messages = self.items("messages", _message)
        if not messages or messages[-1]["role"] != last:
            raise ValueError(f"messages must end with a turn of role {last}")
        return messages


def _parse_whole(raw: object, parse: Callable[[_Fields], T]) -> T:
    """`parse` of an object all of whose fields it takes. Raises ValueError."""
    fields = _Fields(raw)
    value = parse(fields)
    if fields.left:
        raise ValueError(f"unknown field {min(fields.left)!r}")
    return value


def _read(path: Path, parse: Callable[[_Fields], T]) -> Iterator[T]:
    try:
        lines = path.read_text("utf-8").split("\n")
    except (OSError, UnicodeError) as error:
        raise InvalidInput(f"{path.name} cannot be read: {error}", kind="records", file=path.name) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield _parse_whole(json.loads(line), parse)
        except ValueError as error:
            raise InvalidInput(f"{path.name}:{number}: {error}", kind="records", file=path.name, line=number) from error


def _unique(rows: Iterable[T], key: Callable[[T], str], path: Path) -> list[T]:
    by_id: dict[str, T] = {}
    for row in rows:
        if key(row) in by_id:
            raise InvalidInput(
                f"{path.name}: {key(row)!r} occurs twice", kind="records", records=[key(row)], file=path.name
            )
        by_id[key(row)] = row
    return list(by_id.values())


def _message(fields: _Fields) -> Message:
    return {"role": fields.choice("role", ROLES), "content": fields.typed("content", str)}


def _prompt(fields: _Fields) -> Prompt:
    return Prompt(id=fields.identifier("id"), messages=fields.messages(last="user"))


def _demonstration(fields: _Fields) -> Demonstration:
    return Demonstration(
        id=fields.identifier("id"),
        messages=fields.messages(last="user"),
        response=fields.typed("response", str),
    )


def _completion(fields: _Fields) -> Completion:
    return Completion(text=fields.typed("text", str), finish_reason=fields.choice("finish_reason", FINISHES))


def _judgement(fields: _Fields) -> Judgement:
    return Judgement(
        id=fields.identifier("id"),
        annotator=fields.identifier("annotator"),
        round=_optional(fields.take("round"), int),
        places=[_optional(place, int) for place in fields.typed("places", list)],
    )


def _ranked_slate(fields: _Fields) -> RankedSlate:
    slate = RankedSlate(
        slate_id=fields.identifier("slate_id"),
        prompt_id=fields.identifier("prompt_id"),
        messages=fields.messages(last="user"),
        completions=fields.items("completions", _completion),
        judgements=fields.items("judgements", _judgement),
    )
    if len(slate.completions) < 2:
        raise ValueError("a slate needs at least two completions")
    for judgement in slate.judgements:
        if len(judgement.places) != len(slate.completions):
            raise ValueError(f"judgement {judgement.id} does not have a place for every completion")
    return slate


def _sampled_completion(fields: _Fields) -> SampledCompletion:
    return SampledCompletion(
        prompt_id=fields.identifier("prompt_id"),
        index=fields.typed("index", int),
        policy=fields.typed("policy", str),
        text=fields.typed("text", str),
        n_tokens=fields.typed("n_tokens", int),
        logprob=fields.typed("logprob", float),
        reward=_optional(fields.take("reward"), float),
        finish_reason=fields.choice("finish_reason", FINISHES),
        kl=_optional(fields.left.pop("kl", None), float),
        watcher=_optional(fields.left.pop("watcher", None), float),
    )


def _document(fields: _Fields) -> Document:
    fields.left.pop("id", None)
    if "text" in fields.left:
        return Document(text=fields.typed("text", str), messages=[])
    return Document(text=None, messages=fields.messages(last="assistant"))


def _optional(value: object, kind: type[T]) -> T | None:
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        raise ValueError(f"{value!r} is not a number")
    return value
