"""Rankings are submitted, corrected by a newer version, and shown under the letters that their annotator saw.

Ties and "cannot judge" are stored as they were given; holes between places mean nothing, and are closed. Each annotator
sees the answers of a slate in an order of their own, as A, B, C…, and notes, comments and reasons call the answers by
these letters: so does every page that shows the ranking to others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from django.utils.translation import gettext as _

from annotate.models import Assignment, Completion, Member, Placement, Ranking, Slate
from annotate.models.rankings import LARGEST_RATING
from annotate.services import labels
from annotate.services.text import NOTE_LIMIT, clean_text

LETTERS = "ABCDEFGHI"
Key = TypeVar("Key")


class BadRanking(Exception):
    """Places, ratings or flags that do not fit this slate; the message says why."""


class Judgement(NamedTuple):
    """What a ranking says about one completion."""

    place: int | None
    rating: int | None
    flags: list[str]


@dataclass(frozen=True)
class Content:
    """What a ranking says: a judgement of each completion, by its id, and why."""

    judgements: dict[int, Judgement]
    note: str


@dataclass(frozen=True)
class Place:
    """One place of a ranking, with the answers that share it: more than one is a tie."""

    number: int | None  # 1 is best, None is "cannot judge"
    letters: list[str]
    completions: list[int]  # ids, in the order of `letters`

    @property
    def name(self) -> str:
        return ", ".join(self.letters)


def submit(
    assignment: Assignment,
    *,
    submission_id: UUID,
    places: Mapping[int, int | None],
    ratings: Mapping[int, int] | None = None,
    flags: Mapping[int, Iterable[str]] | None = None,
    note: str = "",
) -> Ranking:
    """Store `places` as the holder's ranking: {completion id: place}, 1 is best, equal is a tie, None: cannot judge.

    They are stored without holes, see `dense_places`.
    A replay of `submission_id` returns the stored one. Raises BadRanking or BadText; OtherBody if the replay says
    something else; NotHolder if the assignment is over.
    """
    content = _cleaned(assignment, places, ratings or {}, flags or {}, note)

    def store() -> Ranking:
        return _create(content, assignment, assignment.annotator_id, submission_id)

    return labels.submit(Ranking, assignment, submission_id, store=store, is_same=lambda old: _has(old, content))


def correct(
    ranking: Ranking,
    *,
    annotator: Member,
    submission_id: UUID,
    places: Mapping[int, int | None],
    ratings: Mapping[int, int] | None = None,
    flags: Mapping[int, Iterable[str]] | None = None,
    note: str = "",
) -> Ranking:
    """Store a newer version of `ranking`. Raises BadRanking, BadText, OtherBody or NotHolder."""
    content = _cleaned(ranking.assignment, places, ratings or {}, flags or {}, note)

    def store() -> Ranking:
        return _create(content, ranking.assignment, annotator.pk, submission_id, supersedes=ranking)

    return labels.correct(ranking, annotator, submission_id, store=store, is_same=lambda old: _has(old, content))


def dense_places(places: Mapping[Key, int | None]) -> dict[Key, int | None]:
    """`places` without holes, as they are stored: each is one more than the number of better places that are taken, so
    4 4 2 2 becomes 2 2 1 1; None ("cannot judge") stays.

    The same function as `densePlaces` in static/js/rank.js: both are held to tests/dense_places.json.
    """
    taken = sorted({place for place in places.values() if place is not None})
    return {key: None if place is None else taken.index(place) + 1 for key, place in places.items()}


def letters(card_order: Sequence[int]) -> dict[int, str]:
    """The letter of each completion, by its id; `card_order` is what the annotator's assignment remembers."""
    return dict(zip(card_order, LETTERS, strict=False))


def by_place(assignment: Assignment, places: Mapping[Any, int | None]) -> list[Place]:
    """What `places` ({completion id: place}) say, best first, "cannot judge" last; ties by their letters."""
    # Compared as text: an id in a draft is a string, and one that a program has sent need not be a number at all.
    numbers = {str(pk): number for pk, number in places.items()}
    shown = letters(assignment.card_order)
    cards = [(numbers[str(pk)], letter, pk) for pk, letter in shown.items() if str(pk) in numbers]
    cards.sort(key=lambda card: (card[0] is None, card[0] or 0, card[1]))
    found = []
    for number, group in groupby(cards, key=lambda card: card[0]):
        sharing = list(group)
        found.append(Place(number, [letter for _n, letter, _pk in sharing], [pk for _n, _letter, pk in sharing]))
    return found


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


def _create(
    content: Content,
    assignment: Assignment,
    annotator_pk: int,
    submission_id: UUID,
    *,
    supersedes: Ranking | None = None,
) -> Ranking:
    ranking = Ranking.objects.create(
        project_id=assignment.project_id,
        annotator_id=annotator_pk,
        assignment=assignment,
        submission_id=submission_id,
        slate_id=assignment.item.slate_id,  # type: ignore[misc]  # set, as the item's kind says
        note=content.note,
        supersedes=supersedes,
    )
    Placement.objects.bulk_create(
        Placement(ranking=ranking, completion_id=pk, **judgement._asdict())
        for pk, judgement in content.judgements.items()
    )
    return ranking


def _cleaned(
    assignment: Assignment,
    places: Mapping[int, int | None],
    ratings: Mapping[int, int],
    flags: Mapping[int, Iterable[str]],
    note: str,
) -> Content:
    """Every completion that the assignment shows has a place, and no other. Raises BadRanking or BadText."""
    shown = set(assignment.card_order)
    if set(places) != shown:
        raise BadRanking(_("Give every answer in the set exactly one place."))
    if not {*ratings, *flags} <= shown:
        raise BadRanking(_("A rating or flag refers to an answer that is not in this set."))
    for place in places.values():
        _check_number(place, Slate.LARGEST, _("Places must be from 1 to %d."))
    for rating in ratings.values():
        _check_number(rating, LARGEST_RATING, _("Ratings must be from 1 to %d."))
    if all(place is None for place in places.values()):
        raise BadRanking(_("Rank at least one answer, or skip the set and say why."))
    judgements = {
        pk: Judgement(place, ratings.get(pk), labels.clean_flags(flags.get(pk, ())))
        for pk, place in dense_places(places).items()
    }
    return Content(judgements, clean_text(note, limit=NOTE_LIMIT))


def _check_number(number: int | None, largest: int, message: str) -> None:
    if number is not None and not (type(number) is int and 1 <= number <= largest):
        raise BadRanking(message % largest)


def _has(ranking: Ranking, content: Content) -> bool:
    """Whether `ranking`, which is stored, says just what `content` says."""
    placements = {placement.completion_id: placement for placement in ranking.placements.all()}
    places = dense_places({pk: placement.place for pk, placement in placements.items()})  # older ones may have holes
    judgements = {pk: Judgement(places[pk], placement.rating, placement.flags) for pk, placement in placements.items()}
    return judgements == content.judgements and ranking.note == content.note
