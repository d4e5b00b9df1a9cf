"""The overview of a project: what to decide, how far it is, who is at work, and how the labels come in."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from annotate.models import Kind, Member, Project, Role, Verdict, WorkItem
from annotate.services import demonstrations, prompts, rankings, reviews, work
from annotate.services.project_overview import page as project_overview
from annotate.services.project_overview import people_stats
from annotate.services.project_overview.agreement import FEWEST, Agreement, agreements
from annotate.services.project_overview.parts import Urgency
from annotate.services.project_overview.people_stats import DailyCounts
from tests.factories import make_demonstration, make_member, make_project, make_prompt, make_ranking, make_slate
from training.models import TrainingSettings

pytestmark = [pytest.mark.django_db, pytest.mark.database]
DAY = timedelta(days=1)


def show(client: Client, admin: Member) -> str:
    client.force_login(admin.user)
    answer = client.get(reverse("annotate:project", args=[admin.project.slug]))
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def texts(project: Project) -> list[str]:
    return [decision.text for decision in project_overview.build(project).decisions]


def rank(annotator: Member, *places: int | None) -> None:
    """Rank the next slate: `places` of its answers in the order of their ids."""
    assignment = work.claim(annotator.project, annotator=annotator, kind=Kind.RANKING).assignment
    assert assignment is not None
    said = dict(zip(sorted(assignment.card_order), places, strict=True))
    rankings.submit(assignment, submission_id=uuid4(), places=said)


def test_a_new_project_says_what_to_do_first(client: Client, admin: Member) -> None:
    page = show(client, admin)
    assert "First steps" in page
    assert f'href="{reverse("annotate:add-prompts", args=[admin.project.slug])}"' in page
    assert "Labels per day" not in page
    make_prompt(admin.project)
    make_member(admin.project)
    steps = project_overview.build(admin.project).steps
    assert [step.is_done for step in steps] == [True, False, True]


def test_with_the_first_label_the_figures_take_the_place_of_the_first_steps(
    client: Client, admin: Member, annotator: Member
) -> None:
    make_demonstration(annotator)
    page = show(client, admin)
    assert "First steps" not in page
    assert "Labels per day" in page


def test_labels_a_day_tells_people_and_simulated_apart_by_the_readers_days(project: Project, annotator: Member) -> None:
    simulated = make_member(project, is_simulated=True)
    with timezone.override("Pacific/Auckland"):
        midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
        with time_machine.travel(midnight - timedelta(minutes=1), tick=False):
            make_demonstration(annotator)
            make_ranking(simulated)
        with time_machine.travel(midnight - people_stats.DAYS * DAY, tick=False):
            make_demonstration(annotator)  # too long ago
        with time_machine.travel(midnight + timedelta(minutes=1), tick=False):
            make_ranking(annotator)
            make_ranking(annotator)
            counts = DailyCounts(project)
    assert counts.people == [0] * 12 + [1, 2]
    assert counts.simulated == [0] * 12 + [1, 0]
    assert [slot.cells for slot in people_stats.labels_a_day(counts).slots][-2:] == [("1", "1"), ("2", "0")]


def test_who_holds_work_or_handed_in_within_the_hour_is_at_work(project: Project, annotator: Member) -> None:
    holder, gone, idle = make_member(project), make_member(project), make_member(project)
    with time_machine.travel(timezone.now() - timedelta(hours=2), tick=False):
        make_demonstration(gone)
    make_demonstration(annotator)
    make_prompt(project)
    work.claim(project, annotator=holder, kind=Kind.DEMONSTRATION)
    found = people_stats.at_work([idle, gone, holder, annotator], project)
    assert [(each.member, each.doing) for each in found] == [
        (annotator, "1 label in the last hour"),
        (holder, "writing"),
    ]


def test_the_table_has_what_each_person_did(project: Project, annotator: Member, reviewer: Member) -> None:
    start = timezone.now() - DAY
    with time_machine.travel(start, tick=False) as clock:
        for number in range(5):
            make_prompt(project)
            held = work.claim(project, annotator=annotator, kind=Kind.DEMONSTRATION).assignment
            assert held is not None
            clock.shift(timedelta(seconds=20))
            label = demonstrations.submit(held, submission_id=uuid4(), text="Rest.")
            verdict = Verdict.RETURN if number < 2 else Verdict.ACCEPT
            reviews.record(label, reviewer=reviewer, verdict=verdict, comment="Say how much.")
    members = [reviewer, annotator]
    first, second = people_stats.person_rows(members, project, DailyCounts(project))
    assert (first.member, first.labels, first.answer_seconds, first.ranking_seconds) == (annotator, 5, 20, None)
    assert (first.returned_share, first.reviewed) == (0.4, 5)
    assert first.last_active == start + timedelta(seconds=100)
    assert (second.member, second.labels, second.returned_share) == (reviewer, 0, None)
    assert second.last_active == start + timedelta(seconds=100)  # by reviewing


def test_programs_have_no_usual_time(project: Project) -> None:
    program = make_member(project, is_simulated=True)
    for _number in range(5):
        make_demonstration(program)
    [row] = people_stats.person_rows([program], project, DailyCounts(project))
    assert (row.labels, row.answer_seconds) == (5, None)


def test_a_label_that_was_corrected_and_accepted_came_back_all_the_same(
    project: Project, annotator: Member, reviewer: Member
) -> None:
    label = make_demonstration(annotator)
    reviews.record(label, reviewer=reviewer, verdict=Verdict.RETURN, comment="Say how much.")
    newer = demonstrations.correct(label, annotator=annotator, submission_id=uuid4(), text="Two litres.")
    reviews.record(newer, reviewer=reviewer, verdict=Verdict.ACCEPT)
    for _ in range(4):
        reviews.record(make_ranking(annotator), reviewer=reviewer, verdict=Verdict.ACCEPT)
    (row,) = people_stats.person_rows([annotator], project, DailyCounts(project))
    assert row.returned_share == 0.2


def test_agreement_counts_pairs_that_two_people_judge_the_same_way() -> None:
    project = make_project(ranking_seats=3)
    one, other, simulated = make_member(project), make_member(project), make_member(project, is_simulated=True)
    make_slate(project, completions=3)
    rank(one, 1, 2, 3)
    rank(other, 2, 1, 3)  # two of three pairs the same
    rank(simulated, 1, 2, None)  # one pair: the same as one, not as other
    found = agreements(project, since=timezone.now() - DAY)
    assert found == {
        one.pk: Agreement(2, 3),
        other.pk: Agreement(2, 3),
        simulated.pk: Agreement(1, 2),
    }


def test_a_tie_agrees_with_a_tie_alone() -> None:
    project = make_project(ranking_seats=2)
    one, other = make_member(project), make_member(project)
    make_slate(project, completions=3)
    rank(one, 1, 1, 2)
    rank(other, 2, 2, 1)
    assert agreements(project, since=timezone.now() - DAY)[one.pk] == Agreement(1, 3)
    assert Agreement(FEWEST - 1, FEWEST - 1).share is None
    assert Agreement(FEWEST, 2 * FEWEST).share == 0.5


def test_the_most_urgent_decision_stands_first_and_each_has_its_page(
    client: Client, project: Project, annotator: Member, admin: Member
) -> None:
    TrainingSettings.objects.create(project=project)
    make_demonstration(annotator)
    item = make_slate(project).work_item
    WorkItem.objects.filter(pk=item.pk).update(status=WorkItem.Status.ESCALATED)
    prompts.add(project, prompts.records_from_list([{"text": "Why?"}, {"no": "text"}]), actor=admin.user)
    decisions = project_overview.build(project).decisions
    assert [each.urgency for each in decisions] == sorted(each.urgency for each in decisions)
    told = {each.text: each.address for each in decisions if each.urgency > Urgency.STOPPED}
    day = timezone.localdate().strftime("%B %-d")
    assert told["1 item was skipped by 3 people."] == reverse("annotate:escalations", args=[project.slug])
    assert told["1 label is waiting for review."] == reverse("annotate:next-review", args=[project.slug])
    assert told[f"The import on {day} rejected 1 line."] == reverse("annotate:add-prompts", args=[project.slug])
    page = show(client, admin)
    assert all(f'href="{address}"' in page for address in told.values())


def test_an_import_without_faults_takes_the_earlier_one_off_the_list(project: Project, admin: Member) -> None:
    prompts.add(project, prompts.records_from_list([{"no": "text"}]), actor=admin.user)
    assert any("rejected" in text for text in texts(project))
    prompts.add(project, prompts.records_from_list([{"text": "Why?"}]), actor=admin.user)
    assert not any("rejected" in text for text in texts(project))


def test_it_costs_the_same_for_any_number_of_members(client: Client, project: Project, admin: Member) -> None:
    def cost() -> int:
        with CaptureQueriesContext(connection) as captured:
            show(client, admin)
        return len(captured)

    def fill() -> None:
        member = make_member(project, role=Role.REVIEWER)
        label = make_demonstration(member)
        reviews.record(label, reviewer=admin, verdict=Verdict.RETURN, comment="Say how much.")
        make_ranking(member)

    client.force_login(admin.user)
    fill()
    show(client, admin)
    few = cost()
    for _ in range(3):
        fill()
    assert cost() == few
