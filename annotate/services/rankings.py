"""Rankings are handed in, and corrected by a newer version. Ties and "cannot judge" are stored as they were said; holes
between places say nothing, and are closed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar
from uuid import UUID

from django.utils.translation import gettext as _

from annotate.models import Assignment, Member, Placement, Ranking, Slate
from annotate.services import labels
from annotate.services.text import NOTE_LIMIT, clean_text

Key = TypeVar("Key")


class BadRanking(Exception):
    """Places, ratings or flags that make no ranking of this slate; the message says why."""


class Judged(NamedTuple):
    """What was said about one completion."""

    place: int | None
    rating: int | None
    flags: list[str]


@dataclass(frozen=True)
class Said:
    """What a ranking says: by completion id, and why."""

    judged: dict[int, Judged]
    note: str


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
    said = _said(assignment, places, ratings or {}, flags or {}, note)

    def store() -> Ranking:
        return _create(said, assignment, assignment.annotator_id, submission_id)

    return labels.submit(Ranking, assignment, submission_id, store=store, is_same=lambda old: _says(old, said))


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
    said = _said(ranking.assignment, places, ratings or {}, flags or {}, note)

    def store() -> Ranking:
        return _create(said, ranking.assignment, annotator.pk, submission_id, supersedes=ranking)

    return labels.correct(ranking, annotator, submission_id, store=store, is_same=lambda old: _says(old, said))


def dense_places(places: Mapping[Key, int | None]) -> dict[Key, int | None]:
    """`places` without holes, as they are stored: each is one more than the number of better places that are taken, so
    4 4 2 2 becomes 2 2 1 1; None ("cannot judge") stays.

    The same function as `densePlaces` in static/js/rank.js: both are held to tests/dense_places.json.
    """
    taken = sorted({place for place in places.values() if place is not None})
    return {key: None if place is None else taken.index(place) + 1 for key, place in places.items()}


def _create(
    said: Said, assignment: Assignment, annotator_pk: int, submission_id: UUID, *, supersedes: Ranking | None = None
) -> Ranking:
    ranking = Ranking.objects.create(
        project_id=assignment.project_id,
        annotator_id=annotator_pk,
        assignment=assignment,
        submission_id=submission_id,
        slate_id=assignment.item.slate_id,  # type: ignore[misc]  # set, as the item's kind says
        note=said.note,
        supersedes=supersedes,
    )
    Placement.objects.bulk_create(
        Placement(ranking=ranking, completion_id=pk, **judged._asdict()) for pk, judged in said.judged.items()
    )
    return ranking


def _said(
    assignment: Assignment,
    places: Mapping[int, int | None],
    ratings: Mapping[int, int],
    flags: Mapping[int, Iterable[str]],
    note: str,
) -> Said:
    """Cleaned; every completion that the assignment shows has a place, and no other. Raises BadRanking or BadText."""
    shown = set(assignment.card_order)
    if set(places) != shown:
        raise BadRanking(_("Each answer needs one place: no more, no fewer."))
    if not {*ratings, *flags} <= shown:
        raise BadRanking(_("There is a rating or a flag for an answer that is not in this set."))
    for place in places.values():
        _check_number(place, Slate.LARGEST, _("Places go from 1 to %d."))
    for rating in ratings.values():
        _check_number(rating, 7, _("Ratings go from 1 to %d."))
    if all(place is None for place in places.values()):
        raise BadRanking(_("Place at least one answer, or skip the set and say why."))
    judged = {
        pk: Judged(place, ratings.get(pk), labels.clean_flags(flags.get(pk, ())))
        for pk, place in dense_places(places).items()
    }
    return Said(judged, clean_text(note, limit=NOTE_LIMIT))


def _check_number(number: int | None, largest: int, message: str) -> None:
    if number is not None and not (type(number) is int and 1 <= number <= largest):
        raise BadRanking(message % largest)


def _says(stored: Ranking, said: Said) -> bool:
    placements = {placement.completion_id: placement for placement in stored.placements.all()}
    places = dense_places({pk: placement.place for pk, placement in placements.items()})  # older ones may have holes
    judged = {pk: Judged(places[pk], placement.rating, placement.flags) for pk, placement in placements.items()}
    return judged == said.judged and stored.note == said.note
