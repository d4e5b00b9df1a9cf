"""The letters of a ranking. Each annotator sees the answers of a slate in an own order, as A, B, C…; whoever speaks of
a ranking uses the letters that its annotator saw, since notes, comments and reasons name the answers by them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from annotate.models import Assignment, Completion

LETTERS = "ABCDEFGHI"


@dataclass(frozen=True)
class Place:
    """One place of a ranking, with the answers that share it: more than one is a tie."""

    number: int | None  # 1 is best, None is "cannot judge"
    letters: list[str]
    completions: list[int]  # ids, in the order of `letters`

    @property
    def name(self) -> str:
        return ", ".join(self.letters)


def letters(card_order: Sequence[int]) -> dict[int, str]:
    """The letter of each completion, by its id; `card_order` is what the annotator's assignment remembers."""
    return dict(zip(card_order, LETTERS, strict=False))


def by_place(assignment: Assignment, said: Mapping[Any, int | None]) -> list[Place]:
    """What `said` ({completion id: place}) says, best first, "cannot judge" last; ties by their letters."""
    places = {int(pk): place for pk, place in said.items()}
    lettered = [(places[pk], letter, pk) for pk, letter in letters(assignment.card_order).items() if pk in places]
    lettered.sort(key=lambda card: (card[0] is None, card[0] or 0, card[1]))
    return [_place(number, list(cards)) for number, cards in groupby(lettered, key=lambda card: card[0])]


def best_answers(rankings: Iterable[list[Place]]) -> dict[int, Completion]:
    """The first answer of each ranking's first place, by its id, in one query."""
    best = {places[0].completions[0] for places in rankings if places and places[0].number}
    return Completion.objects.in_bulk(best)


def same_text(texts: Mapping[str, str]) -> dict[str, str]:
    """To each letter of `texts` ({letter: text}), the other letters whose answers have the very same text."""
    return {
        letter: ", ".join(sorted(other for other in texts if other != letter and texts[other] == text))
        for letter, text in texts.items()
    }


def _place(number: int | None, cards: list[tuple[int | None, str, int]]) -> Place:
    return Place(number, [letter for _number, letter, _pk in cards], [pk for _number, _letter, pk in cards])
