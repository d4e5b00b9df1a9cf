"""The labelling pages without a browser: what they answer, to a plain form as well as to htmx."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape

from annotate.models import Assignment, Completion, Demonstration, Kind, Label, Member, Ranking, Verdict
from annotate.services import prompts, reviews, work
from annotate.services.people import members
from annotate.templatetags.people_text import about_each, markdown, words
from annotate.views.assignments import JUST_DONE
from annotate.views.label_kinds import next_address
from tests.factories import make_assignment, make_demonstration, make_ranking

HTMX = {"HX-Request": "true"}


@pytest.fixture
def signed_in(client: Client, annotator: Member) -> Client:
    client.force_login(annotator.user)
    return client


def ranking_form(assignment: Assignment, places: list[int], **fields: object) -> dict[str, object]:
    """What the browser posts; `places` go to the answers in the order in which they are shown."""
    said = {f"place-{pk}": place for pk, place in zip(assignment.card_order, places, strict=True)}
    return {"submission_id": uuid4(), **said, **fields}


def submit(client: Client, assignment: Assignment, form: dict[str, object], **headers: str):
    return client.post(reverse("annotate:submit", args=[assignment.pk]), form, headers=headers)


def save(client: Client, assignment: Assignment, version: int, **fields: object):
    return client.post(reverse("annotate:save-draft", args=[assignment.pk]), {"draft_version": version, **fields})


def test_a_replayed_submission_is_stored_once(signed_in: Client, annotator: Member) -> None:
    assignment = make_assignment(annotator)
    form = ranking_form(assignment, [2, 1, 2])
    for _ in range(2):
        assert submit(signed_in, assignment, form, **HTMX).status_code == 200
    said = {placement.completion_id: placement.place for placement in Ranking.objects.get().placements.all()}
    assert [said[pk] for pk in assignment.card_order] == [2, 1, 2]


def test_a_plain_form_goes_on_to_the_next_piece(signed_in: Client, annotator: Member) -> None:
    assignment = make_assignment(annotator)
    response = submit(signed_in, assignment, ranking_form(assignment, [2, 1, 2]))
    assert response.headers["Location"] == reverse("annotate:rank", args=[annotator.project.slug])
    undo = reverse("annotate:correct", args=["ranking", Ranking.objects.get().pk])
    assert undo in signed_in.get(response.headers["Location"]).content.decode()
    assert undo not in signed_in.get(response.headers["Location"]).content.decode()


def test_an_untouched_order_of_four_is_stored_only_when_confirmed(signed_in: Client, annotator: Member) -> None:
    assignment = make_assignment(annotator, completions=4)
    form = ranking_form(assignment, [1, 2, 3, 4])
    assert submit(signed_in, assignment, form).status_code == 422
    assert submit(signed_in, assignment, form | {"is_confirmed": "1"}).status_code == 302
    assert Ranking.objects.count() == 1


def test_an_untouched_order_of_three_is_not_asked_about(signed_in: Client, annotator: Member) -> None:
    assignment = make_assignment(annotator)
    assert submit(signed_in, assignment, ranking_form(assignment, [1, 2, 3])).status_code == 302


def test_a_form_with_holes_is_stored_without_them(signed_in: Client, annotator: Member) -> None:
    assignment = make_assignment(annotator, completions=4)
    assert submit(signed_in, assignment, ranking_form(assignment, [4, 4, 2, 2])).status_code == 302
    said = dict(Ranking.objects.get().placements.values_list("completion", "place"))
    assert [said[pk] for pk in assignment.card_order] == [2, 2, 1, 1]


@pytest.mark.parametrize(("drafted", "shown"), [([4, 4, 2, 2], ["2", "2", "1", "1"]), ([4, 4, 2], ["4", "4", "2", ""])])
def test_a_whole_draft_opens_as_it_would_be_stored(
    signed_in: Client, annotator: Member, drafted: list[int], shown: list[str]
) -> None:
    """As long as a place is missing, a hole may yet be filled."""
    assignment = make_assignment(annotator, completions=4)
    typed = {f"place-{pk}": place for pk, place in zip(assignment.card_order, drafted, strict=False)}
    save(signed_in, assignment, 0, **typed)
    form = signed_in.get(reverse("annotate:assignment", args=[assignment.pk])).context["form"]
    assert [card.place for card in sorted(form.cards, key=lambda card: card.letter)] == shown


def test_the_button_sleeps_until_every_answer_has_a_place(signed_in: Client, annotator: Member) -> None:
    assignment = make_assignment(annotator)
    address = reverse("annotate:assignment", args=[assignment.pk])
    assert "data-submits disabled" in signed_in.get(address).content.decode()
    save(signed_in, assignment, 0, **{f"place-{pk}": 1 for pk in assignment.card_order})
    assert "data-submits disabled" not in signed_in.get(address).content.decode()


def test_a_missing_place_is_named_by_its_letter(signed_in: Client, annotator: Member) -> None:
    assignment = make_assignment(annotator)
    form = ranking_form(assignment, [1, 2, 3])
    del form[f"place-{assignment.card_order[1]}"]
    response = submit(signed_in, assignment, form)
    assert response.status_code == 422
    assert "Not ranked yet: B." in response.content.decode()


def test_a_refused_answer_comes_back_with_every_word(signed_in: Client, annotator: Member) -> None:
    assignment = make_assignment(annotator, Kind.DEMONSTRATION)
    response = submit(signed_in, assignment, {"submission_id": uuid4(), "text": "half\x00words"}, **HTMX)
    assert response.status_code == 422
    assert "words" in response.content.decode()


def test_a_draft_is_acknowledged_with_its_version(signed_in: Client, annotator: Member) -> None:
    assignment = make_assignment(annotator)
    answer = save(signed_in, assignment, 0, **{f"place-{assignment.card_order[0]}": "2", "note": "so far"})
    assert answer.json()["version"] == 1
    assignment.refresh_from_db()
    assert assignment.draft == {"places": {str(assignment.card_order[0]): 2}, "note": "so far"}


def test_a_stale_draft_is_answered_with_both_texts(signed_in: Client, annotator: Member) -> None:
    assignment = make_assignment(annotator, Kind.DEMONSTRATION)
    save(signed_in, assignment, 0, text="from the other window")
    answer = save(signed_in, assignment, 0, text="from this window")
    assert answer.status_code == 409
    assert all(text in answer.content.decode() for text in ("from the other window", "from this window"))


def test_a_stale_draft_is_answered_whatever_places_are_stored(signed_in: Client, annotator: Member) -> None:
    assignment = make_assignment(annotator)
    assignment.draft, assignment.draft_version = {"places": {"9" * 5000: 1}, "note": "stored"}, 1
    assignment.save()
    stale = save(signed_in, assignment, 0, note="typed here")
    assert stale.status_code == 409
    assert "stored" in stale.content.decode()


@pytest.mark.parametrize("place", ["9" * 5000, "٣", "-1"])
def test_a_place_that_no_answer_can_have_is_left_out_of_a_draft(
    signed_in: Client, annotator: Member, place: str
) -> None:
    assignment = make_assignment(annotator)
    first, second, _third = assignment.card_order
    fields = {f"place-{first}": place, f"place-{second}": "1", "note": "kept"}
    assert save(signed_in, assignment, 0, **fields).status_code == 200
    assignment.refresh_from_db()
    assert assignment.draft == {"places": {str(second): 1}, "note": "kept"}


def test_a_draft_that_is_too_long_is_refused_and_says_what_to_do(signed_in: Client, annotator: Member) -> None:
    assignment = make_assignment(annotator, Kind.DEMONSTRATION)
    answer = save(signed_in, assignment, 0, text="x" * 100_001)
    assert answer.status_code == 422
    assert "Shorten it." in answer.content.decode()
    assignment.refresh_from_db()
    assert assignment.draft is None


def test_a_draft_of_what_was_handed_in_is_gone(signed_in: Client, annotator: Member) -> None:
    label = make_demonstration(annotator)
    assert save(signed_in, label.assignment, 0, text="too late").status_code == 410


def test_an_expired_holder_finds_the_text_and_hands_it_in_as_an_extra(signed_in: Client, annotator: Member) -> None:
    assignment = make_assignment(annotator, Kind.DEMONSTRATION)
    save(signed_in, assignment, 0, text="not lost")
    Assignment.objects.update(lease_until=timezone.now() - timedelta(minutes=1))
    work.expire_leases()
    shelf = signed_in.get(reverse("annotate:my-work", args=[annotator.project.slug]))
    assert "not lost" in shelf.content.decode()
    page = signed_in.get(reverse("annotate:assignment", args=[assignment.pk]))
    assert "not lost" in page.content.decode()
    submit(signed_in, assignment, {"submission_id": uuid4(), "text": "not lost"})
    assert Demonstration.objects.get().assignment.is_extra


def test_the_draft_of_a_skipped_piece_can_be_read_in_full_with_its_lines(signed_in: Client, annotator: Member) -> None:
    assignment = make_assignment(annotator, Kind.DEMONSTRATION)
    draft = "First of all,\n\n- rest\n- drink & wait\n" + "and so on, " * 200 + "to the end"
    save(signed_in, assignment, 0, text=draft)
    signed_in.post(reverse("annotate:skip", args=[assignment.pk]), {"choice": "other", "words": "In Latin"})
    shelf = signed_in.get(reverse("annotate:my-work", args=[annotator.project.slug]), {"show": "skipped"})
    assert f'<div class="text is-plain" dir="auto">{escape(draft)}</div>' in shelf.content.decode()


def test_something_else_needs_words_when_skipping(signed_in: Client, annotator: Member) -> None:
    assignment = make_assignment(annotator)
    address = reverse("annotate:skip", args=[assignment.pk])
    assert signed_in.post(address, {"choice": "other"}).status_code == 422
    assert signed_in.post(address, {"choice": "other", "words": "In Latin"}).status_code == 302
    assert Assignment.objects.get(pk=assignment.pk).skip_reason == "In Latin"


def test_a_returned_label_lies_on_top_of_my_work_and_is_corrected_as_a_new_version(
    signed_in: Client, annotator: Member, reviewer: Member
) -> None:
    label = make_demonstration(annotator)
    reviews.record(label, reviewer=reviewer, verdict=Verdict.RETURN, comment="Say when to see a doctor.")
    shelf = signed_in.get(reverse("annotate:my-work", args=[annotator.project.slug]))
    assert "Say when to see a doctor." in shelf.content.decode()
    address = reverse("annotate:correct", args=["demonstration", label.pk])
    signed_in.post(address, {"submission_id": uuid4(), "text": "See a doctor if it lasts."})
    assert Demonstration.objects.newest().get().supersedes == label


def test_the_author_reads_what_a_reviewer_said_of_an_accepted_label(
    signed_in: Client, annotator: Member, reviewer: Member
) -> None:
    label = make_demonstration(annotator)
    reviews.record(label, reviewer=reviewer, verdict=Verdict.ACCEPT, comment="Name the dose next time.")
    shelf = reverse("annotate:my-work", args=[annotator.project.slug])
    for address in (shelf, reverse("annotate:correct", args=["demonstration", label.pk])):
        assert "Name the dose next time." in signed_in.get(address).content.decode(), address


@pytest.mark.parametrize("headers", [{}, HTMX])
def test_who_submits_for_a_prompt_that_was_withdrawn_is_told(
    signed_in: Client, annotator: Member, admin: Member, headers: dict[str, str]
) -> None:
    assignment = make_assignment(annotator, Kind.DEMONSTRATION)
    prompts.withdraw(assignment.item.subject_prompt, actor=admin.user)
    opened = signed_in.get(reverse("annotate:write", args=[annotator.project.slug])).content.decode()
    assert "This prompt has been withdrawn." in opened
    form = {"submission_id": uuid4(), "text": "Rest."}
    address = reverse("annotate:submit", args=[assignment.pk])
    answer = signed_in.post(address, form, headers=headers, follow=True).content.decode()
    assert "The prompt has been withdrawn in the meantime" in answer
    assert Demonstration.objects.get().text == "Rest."


def test_who_joins_again_finds_in_my_work_what_was_not_submitted(
    signed_in: Client, annotator: Member, admin: Member
) -> None:
    assignment = make_assignment(annotator, Kind.DEMONSTRATION)
    text = "Rest.\n\n" + "And drink water. " * 50
    save(signed_in, assignment, 0, text=text)
    members.remove(annotator, actor=admin.user)
    assert annotator.user is not None
    members.join(annotator.project, user=annotator.user, role=annotator.role)
    shown = signed_in.get(reverse("annotate:my-work", args=[annotator.project.slug])).content.decode()
    assert text.strip() in shown
    assert reverse("annotate:assignment", args=[assignment.pk]) not in shown


@pytest.mark.parametrize("make", [make_demonstration, make_ranking])
def test_every_key_of_a_button_is_in_the_list_of_keys(
    signed_in: Client, annotator: Member, make: Callable[[Member], Label]
) -> None:
    label = make(annotator)
    following = make_assignment(annotator, str(label._meta.model_name))
    session = signed_in.session
    session[JUST_DONE] = label.assignment_id
    session.save()
    shown = signed_in.get(next_address(following.kind, annotator.project)).content.decode()
    page, listed = shown.split('<dialog id="keys"')
    keys = re.findall(r'data-key="(\w)"', page)
    assert "u" in keys
    assert [key for key in keys if f"<kbd>{key.upper()}</kbd>" not in listed] == []


def test_only_its_author_opens_a_label_for_correction(client: Client, annotator: Member, reviewer: Member) -> None:
    label = make_ranking(annotator)
    client.force_login(reviewer.user)
    assert client.get(reverse("annotate:correct", args=["ranking", label.pk])).status_code == 404


def test_the_two_navigations_of_a_long_list_have_names_of_their_own(signed_in: Client, annotator: Member) -> None:
    make_ranking(annotator)
    address = reverse("annotate:my-work", args=[annotator.project.slug])
    shown = signed_in.get(address, {"before": "999"}).content.decode()
    names = re.findall(r'<nav[^>]* aria-label="([^"]+)"', shown)
    assert len(names) == len(set(names)) == 3


def test_the_cost_of_my_work_does_not_grow_with_what_was_done(
    signed_in: Client, annotator: Member, django_assert_max_num_queries
) -> None:
    for _ in range(3):
        make_ranking(annotator)
        make_demonstration(annotator)
    address = reverse("annotate:my-work", args=[annotator.project.slug])
    with django_assert_max_num_queries(18):
        signed_in.get(address, {"show": "submitted"})


@pytest.mark.parametrize(
    "bad",
    [
        "<script>alert(1)</script>",
        "[x](javascript:alert(1))",
        "![x](https://elsewhere.example/x.png)",
        "<a href='data:text/html,x' onclick='x()'>x</a>",
        "[x](vbscript:x)",
    ],
)
def test_no_markup_of_people_or_models_comes_through(bad: str) -> None:
    html = markdown(bad)
    assert not any(
        danger in html for danger in ("<script", 'href="java', "<img", "<a href='", 'href="vb', 'href="data')
    )


def test_the_usual_time_is_shown_in_round_numbers() -> None:
    assert [about_each(50), about_each(100), about_each(600)] == [
        "about 50 s each",
        "about 2 minutes each",
        "about 10 minutes each",
    ]
    assert words(" one\ntwo  three ") == 3


def test_what_a_model_thought_first_is_folded_above_its_answer(
    client: Client, annotator: Member, reviewer: Member
) -> None:
    assignment = make_assignment(annotator)
    Completion.objects.filter(pk=assignment.card_order[0]).update(text="<think>\n**Is** it?\n</think>\n\n**Yes.**")
    client.force_login(annotator.user)
    shown = client.get(reverse("annotate:assignment", args=[assignment.pk])).content.decode()
    assert shown.count('<details class="text thought"') == 1, "answers without a thought have none"
    folded, rest = shown.split('<details class="text thought"')[1].split("</details>", 1)
    assert "<strong>Is</strong> it?" in folded
    assert "<strong>Yes.</strong>" in rest
    assert "&lt;think&gt;\n**Is** it?" in rest, "the plain text is all of it"
    submit(client, assignment, ranking_form(assignment, [2, 1, 2]))
    client.force_login(reviewer.user)
    page = reverse("annotate:review", args=[annotator.project.slug, "ranking", Ranking.objects.get().pk])
    assert '<details class="text thought"' in client.get(page).content.decode()
