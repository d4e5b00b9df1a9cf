"""Reviews and escalations: who may judge a judgement, and what follows from it."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.urls import reverse

from annotate.models import Demonstration, Kind, Review, Role, WorkItem
from annotate.services import demonstrations, rankings, reviews, slates, work
from annotate.services.slates import NewCompletion
from tests.factories import make_demonstration, make_member, make_prompt, make_ranking, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def page(name, project, *args):
    return reverse(f"annotate:{name}", args=[project.slug, *args])


def record(client, label, verdict, comment=""):
    kind = label._meta.model_name
    return client.post(page("record-review", label.project, kind, label.pk), {"verdict": verdict, "comment": comment})


def correct(label, text):
    return demonstrations.correct(label, annotator=label.annotator, submission_id=uuid4(), text=text)


def test_an_accepted_label_leaves_the_queue_and_trains(client, project, annotator, reviewer):
    first, second = make_demonstration(annotator), make_demonstration(annotator)
    client.force_login(reviewer.user)
    response = record(client, first, "accept")
    assert response.url == page("review", project, "demonstration", second.pk)  # the next one at once
    assert list(reviews.waiting(project, Kind.DEMONSTRATION, reviewer=reviewer)) == [second]
    assert Demonstration.objects.trainable().count() == 2


def test_a_returned_label_waits_for_its_correction(client, project, annotator, reviewer):
    label = make_demonstration(annotator)
    client.force_login(reviewer.user)
    assert record(client, label, "return", "Ask before you advise.").url == page("reviews", project)
    assert not Demonstration.objects.trainable().exists()

    newer = correct(label, "Since when do you have it?")
    assert list(Demonstration.objects.trainable()) == [newer]
    assert list(reviews.waiting(project, Kind.DEMONSTRATION, reviewer=reviewer)) == [newer]


def test_a_return_needs_a_comment(client, annotator, reviewer):
    label = make_demonstration(annotator)
    client.force_login(reviewer.user)
    assert record(client, label, "return").status_code == 422
    assert not Review.objects.exists()


def test_nobody_reviews_an_own_label(client, project, reviewer):
    own = make_demonstration(reviewer)
    client.force_login(reviewer.user)
    assert record(client, own, "accept").url == page("reviews", project)
    assert not Review.objects.exists()
    assert not reviews.waiting(project, Kind.DEMONSTRATION, reviewer=reviewer)
    with pytest.raises(reviews.OwnLabel):
        reviews.record(own, reviewer=reviewer, verdict="accept")


def test_a_label_that_was_corrected_meanwhile_leads_to_the_newer_version(client, project, annotator, reviewer):
    label = make_demonstration(annotator)
    newer = correct(label, "Since when do you have it?")
    client.force_login(reviewer.user)
    answer = record(client, label, "return", comment="Ask how long.")
    shown = answer.content.decode()
    assert answer.status_code == 409
    assert newer.text in shown and "Ask how long." in shown
    assert page("record-review", project, "demonstration", newer.pk) in shown
    assert not Review.objects.exists()
    old = client.get(page("review", project, "demonstration", label.pk)).content.decode()
    assert page("review", project, "demonstration", newer.pk) in old
    assert page("record-review", project, "demonstration", label.pk) not in old


def test_the_newest_verdict_counts(annotator, reviewer):
    label = make_demonstration(annotator)
    first = reviews.record(label, reviewer=reviewer, verdict="return", comment="No.")
    reviews.record(label, reviewer=reviewer, verdict="accept", seen=first.pk)
    assert Demonstration.objects.trainable().exists()


def test_a_verdict_that_came_meanwhile_is_shown_before_it_is_replaced(client, project, annotator, reviewer):
    label = make_demonstration(annotator)
    other = reviews.record(label, reviewer=make_member(project, role=Role.REVIEWER), verdict="return", comment="Why?")
    client.force_login(reviewer.user)
    answer = record(client, label, "accept", comment="Clear and short.")
    shown = answer.content.decode()
    assert answer.status_code == 409
    assert "Why?" in shown and "Clear and short." in shown
    assert Review.objects.get() == other
    form = {"verdict": "accept", "seen": answer.context["form"].initial["seen"]}
    client.post(page("record-review", project, "demonstration", label.pk), form)
    assert Demonstration.objects.trainable().exists()


def test_a_button_that_is_pressed_twice_stores_one_verdict(client, annotator, reviewer):
    label = make_demonstration(annotator)
    client.force_login(reviewer.user)
    assert [record(client, label, "return", comment="Say how much.").status_code for _press in range(2)] == [302, 302]
    assert Review.objects.count() == 1


@pytest.mark.parametrize(("verdict", "said"), [("accept", "Accepted."), ("return", "Returned.")])
def test_the_next_page_says_what_was_done_and_leads_back_to_it(client, project, annotator, reviewer, verdict, said):
    first, _second = make_demonstration(annotator), make_demonstration(annotator)
    client.force_login(reviewer.user)
    shown = client.get(record(client, first, verdict, comment="Say how much.").url).content.decode()
    assert f'{said} <a href="{page("review", project, "demonstration", first.pk)}">' in shown


def test_labels_of_another_kind_are_reviewed_before_it_is_said_that_none_is_left(client, project, annotator, reviewer):
    answer, ranking = make_demonstration(annotator), make_ranking(annotator)
    client.force_login(reviewer.user)
    assert client.get(page("review", project, "demonstration", answer.pk)).context["waiting_count"] == 2
    address = record(client, answer, "accept").url
    assert address == page("review", project, "ranking", ranking.pk)
    assert "That was the last one." not in client.get(address).content.decode()
    assert "That was the last one." in client.get(record(client, ranking, "accept").url).content.decode()


def test_rankings_of_one_slate_stand_side_by_side(client, project, annotator, reviewer):
    project.ranking_seats = 2
    project.save()
    ranking = make_ranking(annotator, [2, 1, None])
    other = make_member(project)
    assignment = work.claim(project, annotator=other, kind=Kind.RANKING).assignment
    places = dict.fromkeys(assignment.card_order, 1)
    second = rankings.submit(assignment, submission_id=uuid4(), places=places)
    client.force_login(reviewer.user)
    shown = client.get(page("review", project, "ranking", second.pk)).context["columns"]
    assert [column["ranking"].pk for column in shown] == [second.pk, ranking.pk]
    said = [[(card["letter"], card["place"]) for card in column["cards"]] for column in shown]
    assert said[0] == [("A", 1), ("B", 1), ("C", 1)]
    assert [place for _letter, place in said[1]] == [1, 2, None]


def test_a_reviewer_is_told_what_the_annotator_was_told_about_answers(client, project, annotator, reviewer):
    texts = [NewCompletion("Rest"), NewCompletion("Drink", "length"), NewCompletion("Rest")]
    slates.add(project, prompt=make_prompt(project), completions=texts)
    assignment = work.claim(project, annotator=annotator, kind=Kind.RANKING).assignment
    ranking = rankings.submit(assignment, submission_id=uuid4(), places=dict.fromkeys(assignment.card_order, 1))
    client.force_login(reviewer.user)
    shown = client.get(page("review", project, "ranking", ranking.pk))
    equal = {card["letter"]: card["same"] for card in shown.context["columns"][0]["cards"] if card["same"]}
    assert len(equal) == 2 and {equal[other] for other in equal} == set(equal)
    assert shown.content.decode().count("same text as") == 2
    assert shown.content.decode().count("cut off here") == 1


def test_the_best_answer_is_rendered_in_lists_too(client, project, annotator, reviewer):
    slates.add(project, prompt=make_prompt(project), completions=[NewCompletion("It is $x^2$"), NewCompletion("")])
    assignment = work.claim(project, annotator=annotator, kind=Kind.RANKING).assignment
    best = project.slates.get().completions.get(text__contains="x").pk
    places = {pk: 1 if pk == best else 2 for pk in assignment.card_order}
    rankings.submit(assignment, submission_id=uuid4(), places=places)
    client.force_login(reviewer.user)
    assert "<msup>" in client.get(page("reviews", project)).content.decode()


def test_a_site_admin_who_is_no_member_looks_on(client, annotator):
    label = make_demonstration(annotator)
    client.force_login(make_user(is_site_admin=True))
    assert client.get(page("review", label.project, "demonstration", label.pk)).status_code == 200
    assert record(client, label, "accept").status_code == 403


def test_an_unknown_kind_of_label_is_not_there(client, project, reviewer):
    client.force_login(reviewer.user)
    assert client.get(page("review", project, "prompt", 1)).status_code == 404


def escalated(project):
    make_prompt(project)
    for _ in range(3):
        assignment = work.claim(project, annotator=make_member(project), kind=Kind.DEMONSTRATION).assignment
        work.skip(assignment, reason="I do not understand the question.")
    return WorkItem.objects.get(status=WorkItem.Status.ESCALATED)


def test_what_three_people_skipped_comes_to_reviewers_with_the_reasons(client, project, reviewer):
    escalated(project)
    client.force_login(reviewer.user)
    shown = client.get(page("escalations", project)).content.decode()
    assert shown.count("I do not understand the question.") == 3


def test_a_reopened_item_goes_to_somebody_who_has_not_had_it(client, project, reviewer):
    item = escalated(project)
    client.force_login(reviewer.user)
    client.post(page("settle", project, item.pk), {"decision": "reopen"})
    claimed = work.claim(project, annotator=make_member(project), kind=Kind.DEMONSTRATION).assignment
    assert claimed.item == item


def test_a_withdrawn_item_is_offered_to_nobody(client, project, reviewer):
    item = escalated(project)
    client.force_login(reviewer.user)
    client.post(page("settle", project, item.pk), {"decision": "withdraw"})
    assert work.claim(project, annotator=make_member(project), kind=Kind.DEMONSTRATION).assignment is None
    assert client.post(page("settle", project, item.pk), {"decision": "reopen"}).status_code == 404


def test_the_review_page_costs_the_same_for_any_number_of_labels(
    client, project, annotator, reviewer, django_assert_max_num_queries
):
    for _ in range(8):
        make_demonstration(annotator)
        make_ranking(annotator)
    client.force_login(reviewer.user)
    with django_assert_max_num_queries(14):
        assert client.get(page("reviews", project)).status_code == 200


def test_an_annotator_does_not_review(client, project, annotator):
    label = make_demonstration(make_member(project, role=Role.ANNOTATOR))
    client.force_login(annotator.user)
    assert client.get(page("reviews", project)).status_code == 403
    assert record(client, label, "accept").status_code == 403
