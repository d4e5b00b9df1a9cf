"""Corrections under way: kept on the server while they are written, and gone once they are handed in or given up."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import Assignment, Demonstration, Member, Ranking
from annotate.services import demonstrations, labels, rankings, work
from annotate.services.work import NotHolder, StaleDraft
from tests.factories import make_assignment, make_demonstration, make_ranking

pytestmark = [pytest.mark.django_db, pytest.mark.database]


@pytest.fixture
def signed_in(client: Client, annotator: Member) -> Client:
    client.force_login(annotator.user)
    return client


def at(name: str, label: Demonstration) -> str:
    return reverse(f"annotate:{name}", args=["demonstration", label.pk])


def page(client: Client, address: str, **query: str) -> str:
    return client.get(address, query).content.decode()


def test_a_correction_under_way_is_found_in_another_browser(signed_in: Client, annotator: Member) -> None:
    label = make_demonstration(annotator, "Rest.")
    saved = signed_in.post(at("save-correction", label), {"text": "Rest, and drink", "draft_version": 0})
    assert saved.json()["version"] == 1
    other_browser = Client()
    other_browser.force_login(annotator.user)
    assert "Rest, and drink" in page(other_browser, at("correct", label))
    shelf = page(other_browser, reverse("annotate:my-work", args=[annotator.project.slug]), show="drafts")
    assert "Rest, and drink" in shelf
    assert at("correct", label) in shelf
    assert Demonstration.objects.get().text == "Rest."


def test_a_ranking_under_correction_opens_with_the_places_of_its_draft(signed_in: Client, annotator: Member) -> None:
    ranking = make_ranking(annotator, [1, 2, 3])
    first = ranking.assignment.card_order[0]
    address = reverse("annotate:save-correction", args=["ranking", ranking.pk])
    signed_in.post(address, {f"place-{first}": 3, "note": "on second thoughts", "draft_version": 0})
    shown = signed_in.get(reverse("annotate:correct", args=["ranking", ranking.pk])).context["form"]
    assert {card.completion.pk: card.place for card in shown.cards}[first] == "3"


def test_two_windows_that_correct_differently_see_both_texts(signed_in: Client, annotator: Member) -> None:
    label = make_demonstration(annotator)
    signed_in.post(at("save-correction", label), {"text": "from the other window", "draft_version": 0})
    answer = signed_in.post(at("save-correction", label), {"text": "from this window", "draft_version": 0})
    assert answer.status_code == 409
    assert all(text in answer.content.decode() for text in ("from the other window", "from this window"))


def test_a_correction_given_up_leaves_the_label_and_no_draft(signed_in: Client, annotator: Member) -> None:
    label = make_demonstration(annotator, "Rest.")
    signed_in.post(at("save-correction", label), {"text": "Run.", "draft_version": 0})
    answer = signed_in.post(at("leave-correction", label))
    assert answer.headers["Location"] == reverse("annotate:my-work", args=[annotator.project.slug])
    assert "Run." not in page(signed_in, at("correct", label))
    late = signed_in.post(at("save-correction", label), {"text": "Run!", "draft_version": 1})
    assert late.status_code == 409
    assert "Rest." in late.content.decode()


def test_a_correction_handed_in_takes_its_draft_along(annotator: Member) -> None:
    label = make_demonstration(annotator)
    labels.save_correction_draft(label, draft={"text": "Better"}, version=0)
    newer = demonstrations.correct(label, annotator=annotator, submission_id=uuid4(), text="Better.")
    assert Assignment.objects.get().draft is None
    with pytest.raises(NotHolder):
        labels.save_correction_draft(label, draft={"text": "too late"}, version=2)
    labels.save_correction_draft(newer, draft={"text": "Best"}, version=2)
    labels.give_up_correction(label)
    assert Assignment.objects.get().draft == {"text": "Best"}


def test_a_save_whose_answer_got_lost_may_be_repeated_and_a_stale_one_not(annotator: Member) -> None:
    label = make_demonstration(annotator)
    for _ in range(2):
        assert labels.save_correction_draft(label, draft={"text": "once"}, version=0).draft_version == 1
    with pytest.raises(StaleDraft):
        labels.save_correction_draft(label, draft={"text": "other"}, version=0)


def test_a_correction_that_is_too_long_is_refused(signed_in: Client, annotator: Member) -> None:
    label = make_demonstration(annotator)
    answer = signed_in.post(at("save-correction", label), {"text": "x" * 100_001, "draft_version": 0})
    assert answer.status_code == 422
    assert Assignment.objects.get().draft is None


def test_the_draft_of_a_label_that_is_handed_in_is_no_correction(signed_in: Client, annotator: Member) -> None:
    assignment = make_assignment(annotator, "demonstration")
    work.save_draft(assignment, draft={"text": "first words"}, version=0)
    demonstrations.submit(assignment, submission_id=uuid4(), text="The words.")
    assert "first words" not in page(signed_in, at("correct", Demonstration.objects.get()))


def test_a_correction_on_the_page_keeps_what_a_program_said_and_the_page_does_not_show(
    signed_in: Client, annotator: Member
) -> None:
    assignment = make_assignment(annotator, completions=2)
    first, second = assignment.card_order
    ranking = rankings.submit(
        assignment,
        submission_id=uuid4(),
        places={first: 1, second: 2},
        ratings={first: 7},
        flags={second: ["rude"]},
    )
    form = {"submission_id": uuid4(), f"place-{first}": 2, f"place-{second}": 1, "note": "on second thoughts"}
    address = reverse("annotate:correct", args=["ranking", ranking.pk])
    assert [signed_in.post(address, form).status_code for _replay in range(2)] == [302, 302]
    newer = Ranking.objects.newest().get()
    said = {each.completion_id: (each.place, each.rating, each.flags) for each in newer.placements.all()}
    assert said == {first: (2, 7, []), second: (1, None, ["rude"])}
    assert newer.note == "on second thoughts"


def test_a_corrected_answer_keeps_its_flags_and_note(signed_in: Client, annotator: Member) -> None:
    assignment = make_assignment(annotator, "demonstration")
    label = demonstrations.submit(assignment, submission_id=uuid4(), text="Rest.", flags=["short"], note="from memory")
    signed_in.post(at("correct", label), {"submission_id": uuid4(), "text": "Rest well."})
    newer = Demonstration.objects.newest().get()
    assert (newer.text, newer.flags, newer.note) == ("Rest well.", ["short"], "from memory")


@pytest.mark.parametrize("version", ["", "-1", "x", "9" * 12, "²"])
def test_a_draft_version_that_is_none_is_refused(signed_in: Client, annotator: Member, version: str) -> None:
    label = make_demonstration(annotator)
    answer = signed_in.post(at("save-correction", label), {"text": "x", "draft_version": version})
    assert answer.status_code == 400
