"""Demonstrations and rankings are handed in once, and corrected by a newer version."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import pytest
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from annotate.models import Demonstration, Kind, Placement, Ranking
from annotate.services import demonstrations, rankings
from annotate.services.rankings import BadRanking
from annotate.services.text import BadText
from annotate.services.work import NotHolder, OtherBody
from tests.factories import make_assignment, make_demonstration, make_member, make_ranking

TABLE = Path(__file__).parents[1] / "dense_places.json"
pytestmark = [pytest.mark.django_db, pytest.mark.database]


def placed(assignment, *places: int | None) -> dict[int, int | None]:
    return dict(zip(sorted(assignment.card_order), places, strict=True))


def stored_places(ranking: Ranking) -> list[int | None]:
    return list(ranking.placements.order_by("completion").values_list("place", flat=True))


@pytest.mark.parametrize("each", json.loads(TABLE.read_text()), ids=lambda each: str(each["said"]))
def test_places_are_stored_without_holes(each):
    """The table to which the page's function is held, too."""
    assert list(rankings.dense_places(dict(enumerate(each["said"]))).values()) == each["stored"]


def test_ties_and_cannot_judge_are_stored_as_they_were_said_and_holes_are_closed(annotator):
    assert stored_places(make_ranking(annotator, [1, 4, 4, None])) == [1, 2, 2, None]


def test_a_replay_that_has_the_same_holes_is_a_replay(annotator):
    assignment, submission_id = make_assignment(annotator), uuid4()
    stored = [
        rankings.submit(assignment, submission_id=submission_id, places=placed(assignment, *said))
        for said in [(3, 3, 1), (3, 3, 1), (2, 2, 1)]
    ]
    assert {each.pk for each in stored} == {Ranking.objects.get().pk}
    with pytest.raises(OtherBody):
        rankings.submit(assignment, submission_id=submission_id, places=placed(assignment, 3, 1, 1))


def test_a_ranking_that_was_stored_with_holes_is_still_known_by_its_replay(annotator):
    assignment, submission_id = make_assignment(annotator), uuid4()
    places = placed(assignment, 3, 3, 1)
    rankings.submit(assignment, submission_id=submission_id, places=places)
    Placement.objects.filter(place=2).update(place=3)  # as earlier versions stored it
    assert rankings.submit(assignment, submission_id=submission_id, places=places) == Ranking.objects.get()


def test_a_correction_is_stored_without_holes(annotator):
    first = make_ranking(annotator, [1, 2, 3])
    places = placed(first.assignment, 3, 1, 1)
    second = rankings.correct(first, annotator=annotator, submission_id=uuid4(), places=places)
    assert stored_places(second) == [2, 1, 1]


def test_ratings_flags_and_the_note_are_kept(annotator):
    assignment = make_assignment(annotator, completions=2)
    first, second = sorted(assignment.card_order)
    ranking = rankings.submit(
        assignment, submission_id=uuid4(), places={first: 1, second: 2}, ratings={first: 7},
        flags={second: ["rude", "rude", "false"]}, note="Kinder.\r\n",
    )  # fmt: skip
    worst = Placement.objects.get(completion=second)
    assert (ranking.note, worst.rating, worst.flags) == ("Kinder.\n", None, ["false", "rude"])
    assert Placement.objects.get(completion=first).rating == 7


def test_a_replayed_submission_is_stored_once(annotator):
    assignment, submission_id = make_assignment(annotator), uuid4()
    places = placed(assignment, 2, 1, 2)
    stored = [rankings.submit(assignment, submission_id=submission_id, places=places) for _ in range(2)]
    assert stored[0] == stored[1]
    assert Ranking.objects.count() == 1
    assignment.item.refresh_from_db()
    assert assignment.item.submitted_count == 1


@pytest.mark.parametrize("other", [{"places": (1, 2, 3)}, {"note": "new"}, {"ratings": 4}, {"flags": ["rude"]}])
def test_the_same_submission_id_with_another_body_is_refused(annotator, other):
    assignment, submission_id = make_assignment(annotator), uuid4()
    card = assignment.card_order[0]
    said = {"places": placed(assignment, 2, 1, 2)}
    rankings.submit(assignment, submission_id=submission_id, **said)
    if "places" in other:
        other = {"places": placed(assignment, *other["places"])}
    elif "note" not in other:
        other = {name: {card: value} for name, value in other.items()}
    with pytest.raises(OtherBody):
        rankings.submit(assignment, submission_id=submission_id, **said | other)
    assert Ranking.objects.count() == 1


def test_a_submission_id_belongs_to_one_piece_of_work(annotator):
    submission_id = uuid4()
    first = make_assignment(annotator, Kind.DEMONSTRATION)
    demonstrations.submit(first, submission_id=submission_id, text="Rest.")
    second = make_assignment(annotator, Kind.DEMONSTRATION)
    with pytest.raises(OtherBody):
        demonstrations.submit(second, submission_id=submission_id, text="Rest.")
    second.refresh_from_db()
    assert second.status == "held"


def test_a_second_submission_of_the_same_piece_is_refused(annotator):
    assignment = make_assignment(annotator, Kind.DEMONSTRATION)
    demonstrations.submit(assignment, submission_id=uuid4(), text="Rest.")
    with pytest.raises(NotHolder, match="already submitted"):
        demonstrations.submit(assignment, submission_id=uuid4(), text="Rest.")


def test_two_people_may_happen_to_use_the_same_submission_id(project):
    submission_id = uuid4()
    for _ in range(2):
        assignment = make_assignment(make_member(project), Kind.DEMONSTRATION)
        demonstrations.submit(assignment, submission_id=submission_id, text="Rest.")
    assert Demonstration.objects.count() == 2


@pytest.mark.parametrize(
    "places", [(1,), (1, 2, 3, 4), (0, 1, 2), (1, 2, 10), (1, 2, "3"), (1, 2, True), (1, 2, -1), (None, None, None)]
)
def test_places_that_make_no_ranking_are_refused_and_nothing_is_lost(annotator, places):
    assignment = make_assignment(annotator, completions=3)
    cards = [*sorted(assignment.card_order), 10**9]
    with pytest.raises(BadRanking):
        rankings.submit(assignment, submission_id=uuid4(), places=dict(zip(cards, places, strict=False)))
    assignment.refresh_from_db()
    assert assignment.status == "held"
    assert not Ranking.objects.exists()


@pytest.mark.parametrize(("ratings", "flags"), [({0: 8}, {}), ({0: 0}, {}), ({-1: 3}, {}), ({}, {-1: ["rude"]})])
def test_ratings_and_flags_are_checked(annotator, ratings, flags):
    assignment = make_assignment(annotator)
    cards = dict(enumerate(assignment.card_order))
    with pytest.raises(BadRanking):
        rankings.submit(
            assignment,
            submission_id=uuid4(),
            places=placed(assignment, 1, 2, 3),
            ratings={cards.get(card, card): rating for card, rating in ratings.items()},
            flags={cards.get(card, card): said for card, said in flags.items()},
        )


def test_an_empty_answer_is_refused(annotator):
    assignment = make_assignment(annotator, Kind.DEMONSTRATION)
    with pytest.raises(BadText):
        demonstrations.submit(assignment, submission_id=uuid4(), text=" \n")


def test_a_correction_is_a_new_row_that_supersedes_the_old(annotator):
    first = make_demonstration(annotator, "Rest.")
    second = demonstrations.correct(first, annotator=annotator, submission_id=uuid4(), text="Rest well.")
    assert second.supersedes == first
    assert [label.text for label in Demonstration.objects.order_by("pk")] == ["Rest.", "Rest well."]
    assert list(Demonstration.objects.all().newest()) == [second]


def test_a_ranking_is_corrected_whole(annotator):
    first = make_ranking(annotator, [1, 2, 3])
    places = placed(first.assignment, 3, 2, 1)
    second = rankings.correct(first, annotator=annotator, submission_id=uuid4(), places=places)
    assert stored_places(first) == [1, 2, 3]
    assert stored_places(second) == [3, 2, 1]


def test_a_replayed_correction_is_stored_once(annotator):
    first, submission_id = make_demonstration(annotator), uuid4()
    versions = {
        demonstrations.correct(first, annotator=annotator, submission_id=submission_id, text="Better.")
        for _ in range(2)
    }
    assert len(versions) == 1
    with pytest.raises(OtherBody):
        demonstrations.correct(first, annotator=annotator, submission_id=submission_id, text="Best.")


def test_only_the_newest_version_is_corrected(annotator):
    first = make_demonstration(annotator)
    demonstrations.correct(first, annotator=annotator, submission_id=uuid4(), text="Better.")
    with pytest.raises(OtherBody, match="newer version"):
        demonstrations.correct(first, annotator=annotator, submission_id=uuid4(), text="Best.")


def test_nobody_corrects_other_peoples_labels(annotator, admin):
    with pytest.raises(NotHolder):
        demonstrations.correct(make_demonstration(annotator), annotator=admin, submission_id=uuid4(), text="Mine.")


def test_the_database_keeps_what_was_judged(annotator):
    ranking = make_ranking(annotator, [1, 2])
    with pytest.raises(ProtectedError):
        ranking.slate.prompt.delete()
    with pytest.raises(ProtectedError):
        annotator.delete()


@pytest.mark.parametrize("wrong", [{"place": 0}, {"rating": 8}])
def test_the_database_itself_refuses_placements_out_of_range(annotator, wrong):
    ranking = make_ranking(annotator, [1, 2])
    with pytest.raises(IntegrityError), transaction.atomic():
        ranking.placements.update(**wrong)
