"""Simulated people: they claim, write, rank, skip, submit late and submit twice, each at a desk (desks.py).

What they like is gold.utility with noise. They work one after another in one thread, so that a seed gives the same
labels every time; that people may come at the same instant is tested elsewhere.
"""

import random
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from training.tiny.client import Client
from training.tiny.corpus import helpful
from training.tiny.desks import ApiDesk, Desk, Label, Piece
from training.tiny.gold import UnknownQuestion, kind_of, utility
from training.tiny.world import kinds, manners

HARD_TO_TELL = 0.1  # answers whose noisy utilities differ by less share a place
WEAKNESSES = {"filler": 0.35, "evasive": 0.12, "rude": 0.12}  # share of demonstrations with such a sentence
LATE_BY = 5  # how many pieces of work later a draft that was put aside is finished

Taste = Callable[[str, str], float]  # what an answer is worth to a person: of the question and the answer


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """How reliable the simulated people are."""

    noise: float = 0.5  # standard standard deviation of each person's preferences around the gold utility
    shuffle: float = 0.0  # share of rankings that are random
    skip: float = 0.02  # share of assignments handed back with a reason
    late: float = 0.02  # share saved as a draft and finished LATE_BY pieces of work later
    twice: float = 0.05  # share of submissions that are sent a second time


class Refused(Exception):
    """The server answered something that no annotator should ever see."""


class Annotator:
    """One simulated person at one desk."""

    def __init__(self, desk: Desk, *, name: str, behaviour: Behaviour, seed: int | str) -> None:
        self.desk = desk
        self.behaviour = behaviour
        self.generator = random.Random(f"{name} {seed}")
        self.put_aside: tuple[int, Piece] | None = None  # the wait left, and the piece held meanwhile
        self.tally: Counter[str] = Counter()

    def work(self, kind: str) -> bool:
        """Do one piece of work of `kind`. False when there was none."""
        if self.put_aside:
            self._wait_or_finish(*self.put_aside)
            return True
        piece = self.desk.claim(kind)
        if piece is None:
            return False
        self._begin(piece)
        return True

    def _begin(self, piece: Piece) -> None:
        chance = self.generator.random()
        if not _is_known(piece.question):
            self._skip(piece, "I know nothing about this.")
        elif chance < self.behaviour.skip:
            self._skip(piece, "I do not feel sure about this one.")
        elif chance < self.behaviour.skip + self.behaviour.late:
            self.desk.save_draft(piece, self._label(piece))
            self.put_aside = (LATE_BY, piece)
        else:
            self._finish(piece)

    def _skip(self, piece: Piece, reason: str) -> None:
        self.desk.skip(piece, reason)
        self.tally["skipped"] += 1

    def _wait_or_finish(self, wait: int, piece: Piece) -> None:
        if wait:
            self.put_aside = (wait - 1, piece)
        else:
            self.put_aside = None
            self._finish(piece)
            self.tally["late"] += 1

    def _finish(self, piece: Piece) -> None:
        submission_id = uuid.UUID(int=self.generator.getrandbits(128), version=4)
        label = self._label(piece)
        first = self.desk.submit(piece, label, submission_id)
        if self.generator.random() < self.behaviour.twice:
            if self.desk.submit(piece, label, submission_id) != first:
                raise Refused(f"a {piece.kind} that was sent twice was stored twice")
            self.tally["twice"] += 1
        self.tally[piece.kind] += 1

    def _label(self, piece: Piece) -> Label:
        if piece.kind == "demonstration":
            return {"text": write(piece.question, self.generator)}
        return {"places": rank(piece.question, piece.texts, self.behaviour, self.generator)}


def _is_known(question: str) -> bool:
    """Whether it belongs to the tiny world, the only one that these people can judge."""
    try:
        kind_of(question)
    except UnknownQuestion:
        return False
    return True


def write(question: str, generator: random.Random) -> str:
    """A demonstration: what a person answers who wants to help, but may forget a thing, chat, or lose patience."""
    parts = helpful(kinds()[kind_of(question)], generator)
    for weakness, share in WEAKNESSES.items():
        if generator.random() < share:
            parts.insert(generator.choice((0, len(parts))), generator.choice(getattr(manners(), weakness)))
    return " ".join(parts)


def rank(
    question: str, texts: Mapping[str, str], behaviour: Behaviour, generator: random.Random, taste: Taste = utility
) -> dict[str, int]:
    """The place of every answer as a noisy person sees it; answers too close to tell apart share one."""
    worth = {key: taste(question, text) + generator.gauss(0.0, behaviour.noise) for key, text in texts.items()}
    if generator.random() < behaviour.shuffle:
        worth = dict(zip(worth, generator.sample(list(worth.values()), k=len(worth)), strict=True))
    return _places(worth)


def _places(worth: Mapping[str, float]) -> dict[str, int]:
    places: dict[str, int] = {}
    place, above = 0, float("inf")
    for key in sorted(worth, key=lambda key: -worth[key]):
        if above - worth[key] >= HARD_TO_TELL:
            place += 1
        places[key], above = place, worth[key]
    return places


def assemble(url: str, tokens: Sequence[str], *, project: str, behaviour: Behaviour, seed: int) -> list[Annotator]:
    """One person for each API token."""
    return [
        Annotator(ApiDesk(Client(url, token), project), name=f"annotator-{number}", behaviour=behaviour, seed=seed)
        for number, token in enumerate(tokens, start=1)
    ]


def work(annotators: Sequence[Annotator], kind: str, *, wanted: int) -> int:
    """Work until `wanted` labels of `kind` are in or nobody is given more work; how many came in."""
    before = total(annotators)[kind]
    while True:
        free = [one for one in annotators if not one.put_aside]
        late = [one for one in annotators if one.put_aside]
        missing = wanted - (total(annotators)[kind] - before) - len(late)
        if not missing:
            break
        has_worked = [one.work(kind) for one in [*free[:missing], *late]]
        if not any(has_worked):
            break
    while late := [one for one in annotators if one.put_aside]:
        for one in late:
            one.work(kind)
    return total(annotators)[kind] - before


def total(annotators: Iterable[Annotator]) -> Counter[str]:
    """What all of them did."""
    return sum((annotator.tally for annotator in annotators), Counter())
