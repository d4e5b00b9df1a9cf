"""Letters belong to the ranking: everybody who reads it calls its answers as its annotator did."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from annotate.models import Assignment, Completion, Kind, Member, Project, Ranking, WorkItem
from annotate.services import rankings, work
from annotate.services.rankings import by_place, letters
from tests.factories import make_assignment, make_member, make_slate

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def claim(annotator: Member, *, backwards: bool) -> Assignment:
    """The ranking in `annotator`'s hands, with the answers in the order of their ids or the other way round."""
    assignment = work.claim(annotator.project, annotator=annotator, kind=Kind.RANKING).assignment
    assert assignment is not None
    assignment.card_order = sorted(assignment.card_order, reverse=backwards)
    assignment.save()
    return assignment


def submit(assignment: Assignment, places: list[int | None], note: str = "") -> Ranking:
    """`places` go to the answers as their annotator sees them: A, B, C…"""
    said = dict(zip(assignment.card_order, places, strict=True))
    return rankings.submit(assignment, submission_id=uuid4(), places=said, note=note)


def text_of(assignment: Assignment, letter: str) -> str:
    pk = next(pk for pk, each in letters(assignment.card_order).items() if each == letter)
    return Completion.objects.get(pk=pk).text


def columns(client: Client, ranking: Ranking) -> list[list[tuple[str, str, str | None]]]:
    """Of each ranking beside each other: letter, answer, and its letter in the ranking under review."""
    page = client.get(reverse("annotate:review", args=[ranking.project.slug, "ranking", ranking.pk]))
    return [
        [(card["letter"], card["completion"].text, card["elsewhere"]) for card in column["cards"]]
        for column in page.context["columns"]
    ]


@pytest.fixture
def two_rankings(project: Project) -> list[Ranking]:
    """One slate, seen in two orders: both put their A first."""
    Project.objects.filter(pk=project.pk).update(ranking_seats=2)
    project.refresh_from_db()
    make_slate(project)
    return [
        submit(claim(make_member(project), backwards=backwards), [1, 2, None], note)
        for backwards, note in ((False, "A names its source."), (True, "A is the shortest."))
    ]


def test_a_reviewer_reads_each_ranking_under_its_annotators_letters(client, reviewer, two_rankings):
    client.force_login(reviewer.user)
    first, second = two_rankings
    reviewed, other = columns(client, second)
    assert [(letter, text) for letter, text, _ in reviewed] == [
        (each, text_of(second.assignment, each)) for each in "ABC"
    ]
    assert [(letter, text) for letter, text, _ in other] == [(each, text_of(first.assignment, each)) for each in "ABC"]


def test_the_same_answer_is_recognised_in_both_rankings(client, reviewer, two_rankings):
    client.force_login(reviewer.user)
    reviewed, other = columns(client, two_rankings[0])
    assert [elsewhere for *_, elsewhere in reviewed] == [None, None, None]
    by_letter = {letter: text for letter, text, _ in reviewed}
    assert [(text, elsewhere) for _, text, elsewhere in other] == [
        (text, next(each for each in by_letter if by_letter[each] == text)) for _, text, _ in other
    ]
    assert [elsewhere for *_, elsewhere in other] == ["C", "B", "A"]
    page = client.get(reverse("annotate:review", args=[reviewer.project.slug, "ranking", two_rankings[0].pk]))
    assert "A is the shortest." in page.content.decode()  # what the other one said, beside the letters it speaks of


def test_the_list_of_reviews_tells_rankings_apart_by_what_they_say(client, reviewer, two_rankings):
    client.force_login(reviewer.user)
    page = client.get(reverse("annotate:reviews", args=[reviewer.project.slug]))
    rows = next(queue["rows"] for queue in page.context["queues"] if queue["kind"] == Kind.RANKING)
    assert [row["best"].text for row in rows] == [text_of(each.assignment, "A") for each in two_rankings]
    assert [[(place.number, place.name) for place in row["places"]] for row in rows] == [
        [(1, "A"), (2, "B"), (None, "C")]
    ] * 2


def test_who_decides_about_a_slate_reads_the_letters_of_each_reason(client, project, reviewer):
    make_slate(project)
    skippers = []
    for backwards in (False, True, False):
        skippers.append(claim(make_member(project), backwards=backwards))
        work.skip(skippers[-1], reason="A is empty.")
    item = WorkItem.objects.get(status=WorkItem.Status.ESCALATED)
    client.force_login(reviewer.user)
    page = client.get(reverse("annotate:escalations", args=[project.slug]))
    [(shown, answers)] = page.context["rows"]
    assert shown == item
    called = {answer["completion"].text: dict(answer["called"]) for answer in answers}
    for assignment in skippers:
        assert called[text_of(assignment, "A")][assignment.annotator] == "A"


def test_a_correction_opens_under_the_letters_of_the_ranking(client, two_rankings):
    for ranking in two_rankings:
        client.force_login(ranking.annotator.user)
        form = client.get(reverse("annotate:correct", args=["ranking", ranking.pk])).context["form"]
        assert {card.letter: card.completion.text for card in form.cards} == {
            each: text_of(ranking.assignment, each) for each in "ABC"
        }


def test_my_work_shows_a_ranking_by_place_with_the_best_answers_first_line(client, annotator):
    assignment = make_assignment(annotator, completions=4)
    best = assignment.card_order[2]
    Completion.objects.filter(pk=best).update(text="\n\nDrink water.\nThen rest.")
    submit(assignment, [2, 3, 1, 2])
    client.force_login(annotator.user)
    page = client.get(reverse("annotate:my-work", args=[annotator.project.slug]), {"show": "submitted"})
    [piece] = page.context["pieces"]
    assert [(place.number, place.name) for place in piece["places"]] == [(1, "C"), (2, "A, D"), (3, "B")]
    assert "Drink water." in page.content.decode()
    assert "Then rest." not in page.content.decode()


def test_my_work_shows_a_stored_draft_whose_places_name_what_cannot_be_an_answer(client, annotator):
    assignment = make_assignment(annotator, completions=2)
    first, second = assignment.card_order
    assignment.draft = {"places": {"9" * 5000: 1, "first": 1, str(first): 2, str(second): 1}}
    assignment.save()
    client.force_login(annotator.user)
    page = client.get(reverse("annotate:my-work", args=[annotator.project.slug]), {"show": "drafts"})
    [piece] = page.context["pieces"]
    assert [(place.number, place.name) for place in piece["places"]] == [(1, "B"), (2, "A")]


def test_an_empty_best_answer_says_so(client, annotator):
    assignment = make_assignment(annotator, completions=2)
    Completion.objects.filter(pk=assignment.card_order[0]).update(text=" \n")
    submit(assignment, [1, 2])
    client.force_login(annotator.user)
    page = client.get(reverse("annotate:my-work", args=[annotator.project.slug]), {"show": "submitted"})
    assert "(empty answer)" in page.content.decode()


def test_my_work_costs_the_same_for_any_number_of_rankings(client, annotator):
    client.force_login(annotator.user)
    costs = []
    for _ in range(2):
        submit(make_assignment(annotator), [1, 2, 3])
        with CaptureQueriesContext(connection) as captured:
            client.get(reverse("annotate:my-work", args=[annotator.project.slug]), {"show": "submitted"})
        costs.append(len(captured))
    assert costs[0] == costs[1]


def test_what_cannot_be_judged_comes_last(annotator):
    assignment = make_assignment(annotator, completions=3)
    said = dict(zip(assignment.card_order, [None, 2, 1], strict=True))
    assert [(place.number, place.name) for place in by_place(assignment, said)] == [(1, "C"), (2, "B"), (None, "A")]
