"""The tiny world: everyday questions, and the sentences from which replies to them are made.

The texts themselves are in kinds/*.toml and manners.toml. What makes a reply good is not said here but in gold.py.
"""

import random
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent

ASK_FRAMES = (
    "How do I {}?",
    "How can I {}?",
    "What is the best way to {}?",
    "Please tell me how to {}.",
    "Do you have any tips on how to {}?",
    "I want to {}. Where do I start?",
    "Can you help me to {}?",
    "What do I need to do to {}?",
)
SAY_FRAMES = ("{} What should I do?", "{} Please help.", "{} Do you have any advice?")
CONNECTIVES = ("First", "Then", "After that", "Finally")

_CONNECTIVE = re.compile(rf"^(?:{'|'.join(CONNECTIVES)}), ", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of everyday question, with all that a good answer to it may say."""

    name: str
    ask: Sequence[str]  # verb phrases that follow "How do I"
    say: Sequence[str]  # what people say instead of asking
    opening: str  # a sentence on the matter, with which an answer may begin
    steps: Sequence[str]  # what helps, in the order in which one would do it
    care: str  # what to be careful about
    question: str | None = None  # what a good answer asks back, where the case needs it


class Phrasing(NamedTuple):
    """One way to ask a question of a kind; its group decides whether it is ever trained on."""

    kind: str
    text: str
    group: str


class Manners(NamedTuple):
    """What people say that belongs to no kind of question."""

    courtesy: Sequence[str]
    filler: Sequence[str]
    evasive: Sequence[str]
    rude: Sequence[str]


@cache
def kinds() -> dict[str, Kind]:
    """Every kind of question by its name."""
    tables = [tomllib.loads(path.read_text("utf-8")) for path in sorted((HERE / "kinds").glob("*.toml"))]
    return {name: Kind(name=name, **fields) for table in tables for name, fields in table.items()}


@cache
def manners() -> Manners:
    """What people say that belongs to no kind of question."""
    return Manners(**tomllib.loads((HERE / "manners.toml").read_text("utf-8")))


@cache
def phrasings() -> tuple[Phrasing, ...]:
    """Every way to ask every kind of question, kind by kind."""
    return tuple(
        Phrasing(kind.name, text, f"{kind.name}-{number:02}")
        for kind in kinds().values()
        for number, text in enumerate(_texts(kind), start=1)
    )


def _texts(kind: Kind) -> list[str]:
    asked = [frame.format(phrase) for phrase in kind.ask for frame in ASK_FRAMES]
    said = [frame.format(sentence) for sentence in kind.say for frame in SAY_FRAMES]
    return asked + said


def sentences(text: str) -> list[str]:
    """The sentences of a reply, without the connectives that join them, first letter large."""
    bare = (_CONNECTIVE.sub("", part) for part in _SENTENCE_END.split(text.strip()))
    return [part[:1].upper() + part[1:] for part in bare if part]


def joined(steps: Sequence[str], generator: random.Random) -> list[str]:
    """The steps as a recipe tells them ("First, …", "Then, …"), or, half of the time, just as they are."""
    if len(steps) < 2 or generator.random() < 0.5:
        return list(steps)
    words = ["First", *generator.choices(("Then", "After that"), k=len(steps) - 2), "Finally"]
    return [f"{word}, {step[0].lower()}{step[1:]}" for word, step in zip(words, steps, strict=True)]
