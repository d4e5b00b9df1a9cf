"""What waits for reviewers: it agrees with the reviews, stands on the home page, and is worked off oldest first."""

from __future__ import annotations

from datetime import timedelta
from importlib import import_module
from uuid import uuid4

import pytest
import time_machine
from django.apps import apps
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.models import Assignment, Demonstration, Label, Member, Project, Ranking, Review, Verdict, WorkItem
from annotate.services import demonstrations, prompts, reviews
from annotate.services.people import members
from annotate.services.review_queue import ReviewWork, count_waiting, next_label, review_work
from tests.factories import make_demonstration, make_member, make_ranking, make_slate

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def send_back(label: Label, reviewer: Member) -> None:
    reviews.record(label, reviewer=reviewer, verdict=Verdict.RETURN, comment="Say how much.")


def accept(label: Label, reviewer: Member) -> None:
    reviews.record(label, reviewer=reviewer, verdict=Verdict.ACCEPT)


def correct(label: Demonstration) -> Demonstration:
    return demonstrations.correct(label, annotator=label.annotator, submission_id=uuid4(), text=f"{label.text} Twice.")


def states() -> list[str]:
    return list(Assignment.objects.submitted().order_by("pk").values_list("review_state", flat=True))


def history(annotator: Member, reviewer: Member) -> None:
    """A piece in each state that a label can be in."""
    make_demonstration(annotator)  # waits
    accept(make_ranking(annotator), reviewer)
    send_back(make_ranking(annotator), reviewer)
    returned = make_demonstration(annotator)
    send_back(returned, reviewer)
    corrected = correct(returned)  # waits again
    send_back(corrected, reviewer)
    correct(corrected)
    accepted = make_demonstration(annotator)
    send_back(accepted, reviewer)
    accept(correct(accepted), reviewer)
    correct(make_demonstration(annotator))  # corrected before anybody reviewed it


HISTORY = ["waiting", "accepted", "returned", "corrected", "accepted", "waiting"]


def test_each_piece_says_where_its_newest_label_stands(annotator: Member, reviewer: Member) -> None:
    history(annotator, reviewer)
    assert states() == HISTORY


def test_what_waits_and_what_came_back_are_those_that_the_reviews_say(
    project: Project, annotator: Member, reviewer: Member
) -> None:
    history(annotator, reviewer)
    waiting = [*Demonstration.objects.unreviewed(), *Ranking.objects.unreviewed()]
    returned = [*Demonstration.objects.newest().returned(), *Ranking.objects.newest().returned()]
    assert {label.assignment_id for label in waiting} == {piece.pk for piece in Assignment.objects.awaiting_review()}
    assert {label.assignment_id for label in returned} == {piece.pk for piece in Assignment.objects.returned()}


def test_pieces_from_before_get_their_state_from_the_reviews(annotator: Member, reviewer: Member) -> None:
    history(annotator, reviewer)
    Assignment.objects.update(review_state="")
    import_module("annotate.migrations.0007_review_state").read_reviews(apps, None)
    assert states() == HISTORY


def test_labels_of_people_who_were_erased_need_no_review(annotator: Member, reviewer: Member, admin: Member) -> None:
    make_demonstration(annotator)
    members.erase(annotator, actor=admin.user)
    assert review_work([reviewer])[reviewer.pk].new == 0


def test_labels_of_withdrawn_prompts_need_no_review(
    client: Client, project: Project, annotator: Member, reviewer: Member, admin: Member
) -> None:
    labels = [make_demonstration(annotator), make_ranking(annotator)]
    for prompt in project.prompts.all():
        prompts.withdraw(prompt, actor=admin.user)
    assert review_work([reviewer])[reviewer.pk].new == 0
    assert count_waiting(project, reviewer=reviewer) == 0
    assert next_label(project, reviewer=reviewer, only_corrected=False) is None
    assert not any(reviews.waiting(project, label._meta.model_name, reviewer=reviewer) for label in labels)


def test_home_tells_a_reviewer_what_waits_since_when_and_what_it_takes(
    client: Client, project: Project, annotator: Member, reviewer: Member
) -> None:
    start = timezone.now() - timedelta(days=3)
    with time_machine.travel(start, tick=False) as clock:
        history(annotator, reviewer)
        for _ in range(6):
            label = make_demonstration(annotator)
            clock.shift(timedelta(seconds=40))
            accept(label, reviewer)
    item = make_slate(project).work_item
    WorkItem.objects.filter(pk=item.pk).update(status=WorkItem.Status.ESCALATED)
    make_ranking(reviewer)  # one's own
    expected = ReviewWork(new=2, oldest=start, corrected=1, escalated=1, median_seconds=40)
    assert review_work([reviewer])[reviewer.pk] == expected
    client.force_login(reviewer.user)
    home = " ".join(client.get(reverse("annotate:home")).content.decode().split())
    assert "labels to review · about 40 s each" in home
    assert "has been waiting for 3 days" in home
    assert "Corrected labels" in home
    assert "skipped by 3 people" in home


def test_home_tells_an_annotator_nothing_of_reviews(client: Client, annotator: Member, reviewer: Member) -> None:
    history(annotator, reviewer)
    client.force_login(annotator.user)
    assert "to review" not in client.get(reverse("annotate:home")).content.decode()


def test_a_reviewer_is_led_to_what_has_waited_longest_and_to_corrections(
    client: Client, project: Project, annotator: Member, reviewer: Member
) -> None:
    make_demonstration(reviewer)
    returned = make_demonstration(annotator)
    send_back(returned, reviewer)
    corrected = correct(returned)
    first = make_ranking(annotator)
    make_demonstration(annotator)
    client.force_login(reviewer.user)
    address = reverse("annotate:next-review", args=[project.slug])
    assert client.get(address).url == reverse("annotate:review", args=[project.slug, "ranking", first.pk])
    asked = client.get(address, {"show": "corrected"})
    assert asked.url == reverse("annotate:review", args=[project.slug, "demonstration", corrected.pk])
    accept(corrected, reviewer)
    assert client.get(address, {"show": "corrected"}).url == reverse("annotate:reviews", args=[project.slug])


def test_the_next_label_of_a_site_admin_is_the_oldest_of_all(project: Project, reviewer: Member) -> None:
    own = make_demonstration(reviewer)
    assert next_label(project, reviewer=None, only_corrected=False) == own


def test_a_return_rings_the_authors_bell_once(
    client: Client, project: Project, annotator: Member, reviewer: Member
) -> None:
    label = make_ranking(annotator)
    client.force_login(reviewer.user)
    address = reverse("annotate:record-review", args=[project.slug, "ranking", label.pk])
    for _ in range(2):  # pressed twice
        client.post(address, {"verdict": "return", "comment": "B answers\nthe question."})
    notice = annotator.notices.get()
    assert notice.kind == "label.returned"
    assert notice.text == "Your ranking was returned: “B answers the question.”"
    client.force_login(annotator.user)
    opened = client.post(reverse("annotate:open-notice", args=[notice.pk]), follow=True)
    assert "B answers" in opened.content.decode()
    assert opened.redirect_chain[0][0] == reverse("annotate:correct", args=["ranking", label.pk])
    assert not reviewer.notices.exists()


def test_each_return_of_a_correction_rings_again_and_an_accepted_one_does_not(
    annotator: Member, reviewer: Member
) -> None:
    Member.objects.filter(pk=annotator.pk).update(wants_mail=True)
    label = make_demonstration(annotator)
    send_back(label, reviewer)
    corrected = correct(label)
    send_back(corrected, reviewer)
    accept(correct(corrected), reviewer)
    told = annotator.notices.order_by("pk").values_list("address", "wants_mail")
    assert list(told) == [
        (reverse("annotate:correct", args=["demonstration", each.pk]), True) for each in (label, corrected)
    ]


def test_programs_and_people_who_left_are_told_nothing(project: Project, reviewer: Member, admin: Member) -> None:
    simulated, former = make_member(project, is_simulated=True), make_member(project)
    labels = [make_demonstration(simulated), make_demonstration(former)]
    members.remove(former, actor=admin.user)
    for label in labels:
        label.refresh_from_db()
        send_back(label, reviewer)
    assert not simulated.notices.exists()
    assert not former.notices.exists()
    assert Review.objects.count() == 2
