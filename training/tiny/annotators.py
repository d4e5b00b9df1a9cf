"""Simulated people: they claim, write, rank, skip, hand in late and send twice, through the REST API like any program.

What they like is gold.utility, seen through noise. They take turns in one thread, so that a seed gives the same labels
every time; that people may come at the same instant is tested elsewhere.
"""

import random
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.tiny.client import Client
from training.tiny.corpus import helpful
from training.tiny.gold import UnknownQuestion, kind_of, utility
from training.tiny.world import kinds, manners

HARD_TO_TELL = 0.1  # answers whose felt worth differs by less share a place
WEAKNESSES = {"filler": 0.35, "evasive": 0.12, "rude": 0.12}  # share of demonstrations with such a sentence
TURNS_AWAY = 5  # for how long somebody who is called away holds what was claimed


@dataclass(frozen=True, kw_only=True)
class Habits:
    """How reliable the simulated people are."""

    noise: float = 0.5  # standard deviation of what a person feels around the gold utility
    shuffle: float = 0.0  # share of rankings that are mere chance
    skip: float = 0.02  # share of assignments handed back with a reason
    late: float = 0.02  # share begun as a draft and finished some turns later
    twice: float = 0.05  # share of submissions that are sent a second time


class Refused(Exception):
    """The server answered something that no annotator should ever see."""


class Annotator:
    """One simulated person with one API token."""

    def __init__(self, client: Client, *, project: str, name: str, habits: Habits, seed: int) -> None:
        self.client = client
        self.project = project
        self.habits = habits
        self.draw = random.Random(f"{name} {seed}")
        self.away: tuple[int, dict[str, Any]] | None = None  # turns left, and the assignment held meanwhile
        self.tally: Counter[str] = Counter()

    def turn(self, kind: str) -> bool:
        """Do one piece of work of `kind`. False when there was none."""
        if self.away:
            self._come_back_some_day(*self.away)
            return True
        answer = self._post(f"projects/{self.project}/claim/", {"kind": kind})
        assignment = answer["assignment"]
        if assignment is None:
            return False
        self._begin(assignment)
        return True

    def _begin(self, assignment: dict[str, Any]) -> None:
        fate = self.draw.random()
        if not _is_of_this_world(assignment):
            self._skip(assignment, "I know nothing about this.")
        elif fate < self.habits.skip:
            self._skip(assignment, "I do not feel sure about this one.")
        elif fate < self.habits.skip + self.habits.late:
            self._be_called_away(assignment)
        else:
            self._finish(assignment)

    def _skip(self, assignment: dict[str, Any], reason: str) -> None:
        self._post(f"assignments/{assignment['id']}/skip/", {"reason": reason})
        self.tally["skipped"] += 1

    def _be_called_away(self, assignment: dict[str, Any]) -> None:
        draft = {"draft_version": assignment["draft_version"], "draft": self._label(assignment)}
        self.client.send("PUT", f"assignments/{assignment['id']}/draft/", draft)
        self.away = (TURNS_AWAY, assignment)

    def _come_back_some_day(self, turns: int, assignment: dict[str, Any]) -> None:
        self.away = (turns - 1, assignment) if turns else None
        if not turns:
            self._finish(assignment)
            self.tally["late"] += 1

    def _finish(self, assignment: dict[str, Any]) -> None:
        kind = assignment["kind"]
        label = {"submission_id": str(uuid.UUID(int=self.draw.getrandbits(128), version=4)), **self._label(assignment)}
        first = self._post(f"assignments/{assignment['id']}/{kind}/", label)
        if self.draw.random() < self.habits.twice:
            if self._post(f"assignments/{assignment['id']}/{kind}/", label)["id"] != first["id"]:
                raise Refused(f"a {kind} that was sent twice was stored twice")
            self.tally["twice"] += 1
        self.tally[kind] += 1

    def _label(self, assignment: dict[str, Any]) -> dict[str, Any]:
        question = assignment["messages"][-1]["content"]
        if assignment["kind"] == "demonstration":
            return {"text": write(question, self.draw)}
        texts = {str(completion["id"]): completion["text"] for completion in assignment["completions"]}
        return {"places": rank(question, texts, self.habits, self.draw)}

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return self.client.send("POST", path, body)


def _is_of_this_world(assignment: dict[str, Any]) -> bool:
    try:
        kind_of(assignment["messages"][-1]["content"])
    except UnknownQuestion:
        return False
    return True


def write(question: str, draw: random.Random) -> str:
    """A demonstration: what a person answers who wants to help, but may forget a thing, chat, or lose patience."""
    parts = helpful(kinds()[kind_of(question)], draw)
    for weakness, share in WEAKNESSES.items():
        if draw.random() < share:
            parts.insert(draw.choice((0, len(parts))), draw.choice(getattr(manners(), weakness)))
    return " ".join(parts)


def rank(question: str, texts: Mapping[str, str], habits: Habits, draw: random.Random) -> dict[str, int]:
    """The place of every answer as a noisy person sees it; answers too close to tell apart share one."""
    felt = {key: utility(question, text) + draw.gauss(0.0, habits.noise) for key, text in texts.items()}
    if draw.random() < habits.shuffle:
        felt = dict(zip(felt, draw.sample(list(felt.values()), k=len(felt)), strict=True))
    return _places(felt)


def _places(felt: Mapping[str, float]) -> dict[str, int]:
    places: dict[str, int] = {}
    place, above = 0, float("inf")
    for key in sorted(felt, key=lambda key: -felt[key]):
        if above - felt[key] >= HARD_TO_TELL:
            place += 1
        places[key], above = place, felt[key]
    return places


def assemble(url: str, tokens: Sequence[str], *, project: str, habits: Habits, seed: int) -> list[Annotator]:
    """One person for each API token."""
    return [
        Annotator(Client(url, token), project=project, name=f"annotator-{number}", habits=habits, seed=seed)
        for number, token in enumerate(tokens, start=1)
    ]


def work(annotators: Sequence[Annotator], kind: str, *, wanted: int) -> int:
    """Take turns until `wanted` labels of `kind` are in or nobody is given more work; how many came in."""
    before = total(annotators)[kind]
    while missing := wanted - (total(annotators)[kind] - before) - sum(bool(one.away) for one in annotators):
        here = [one for one in annotators if not one.away]
        away = [one for one in annotators if one.away]
        if not sum(one.turn(kind) for one in [*here[:missing], *away]):
            break
    while any(one.away for one in annotators):
        for one in annotators:
            if one.away:
                one.turn(kind)
    return total(annotators)[kind] - before


def total(annotators: Iterable[Annotator]) -> Counter[str]:
    """What all of them did."""
    return sum((annotator.tally for annotator in annotators), Counter())
