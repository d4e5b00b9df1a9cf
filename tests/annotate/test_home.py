"""Home: the work of every project one belongs to, and how far each one's next round is."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from annotate.models import Assignment, Kind, Member, Project, Ranking
from annotate.services import work
from tests.factories import make_demonstration, make_member, make_prompt, make_ranking, make_slate
from training.models import ModelVersion, Round, TrainingSettings

pytestmark = [pytest.mark.django_db, pytest.mark.database]


@pytest.fixture
def signed_in(client: Client, annotator: Member) -> Client:
    client.force_login(annotator.user)
    return client


@pytest.fixture
def trains(project: Project) -> Project:
    """The project, with everything a round needs but people's labels."""
    TrainingSettings.objects.create(project=project, demonstrations_minimum=1, rankings_minimum=2)
    ModelVersion.objects.create(project=project, kind="base", number=1, manifest_sha256="0" * 64)
    return project


def home(client: Client) -> str:
    return client.get(reverse("annotate:home")).content.decode()


def test_it_shows_the_work_of_every_project_one_belongs_to(
    signed_in: Client, annotator: Member, project: Project
) -> None:
    other = make_member(user=annotator.user)
    make_slate(project)
    make_prompt(other.project)
    page = home(signed_in)
    assert project.name in page
    assert other.project.name in page


def test_it_keeps_the_projects_apart(signed_in: Client, annotator: Member) -> None:
    other = make_member(user=annotator.user)
    make_demonstration(annotator)
    for _ in range(2):
        make_slate(other.project)
    make_prompt(other.project)
    claimed = work.claim(other.project, annotator=other, kind=Kind.DEMONSTRATION).assignment
    assert claimed is not None
    work.save_draft(claimed, draft={"text": "Rest"}, version=0)
    shown = {place.member: place for place in signed_in.get(reverse("annotate:home")).context["workplaces"]}
    waiting = {
        member.pk: [(each.kind, each.waiting, bool(each.held)) for each in place.works]
        for member, place in shown.items()
    }
    assert waiting == {
        annotator.pk: [(Kind.RANKING, 0, False), (Kind.DEMONSTRATION, 0, False)],
        other.pk: [(Kind.RANKING, 2, False), (Kind.DEMONSTRATION, 2, True)],
    }
    assert [(shown[member].answers_this_week, shown[member].rankings_this_week) for member in (annotator, other)] == [
        (1, 0),
        (0, 0),
    ]


def test_it_says_what_the_next_round_waits_for(signed_in: Client, annotator: Member, trains: Project) -> None:
    assert "1 more answer before round 1 can train" in home(signed_in)
    make_demonstration(annotator)
    assert "Round 1 can train<" in home(signed_in)
    Round.objects.create(project=trains, number=1, plan={}, status=Round.Status.RUNNING)
    for _ in range(2):
        make_ranking(annotator)
    assert "Round 2 can train once round 1 is done<" in home(signed_in)


def test_people_rank_on_while_a_round_trains(signed_in: Client, annotator: Member, trains: Project) -> None:
    make_slate(trains)
    Round.objects.create(project=trains, number=1, plan={}, status=Round.Status.RUNNING)
    assert signed_in.get(reverse("annotate:rank", args=[trains.slug])).status_code == 200
    held = Assignment.objects.get()
    places = {f"place-{pk}": place for place, pk in enumerate(reversed(held.card_order), 1)}
    answer = signed_in.post(reverse("annotate:submit", args=[held.pk]), {"submission_id": uuid4(), **places})
    assert answer.status_code == 302
    assert Ranking.objects.get().annotator == annotator


def test_it_costs_the_same_for_one_membership_and_for_five(
    signed_in: Client, annotator: Member, trains: Project
) -> None:
    fill(annotator)
    one = cost(signed_in)
    for _ in range(4):
        other = make_member(user=annotator.user)
        TrainingSettings.objects.create(project=other.project)
        fill(other)
    assert cost(signed_in) == one


def fill(member: Member) -> None:
    """Something of everything that the page shows."""
    make_demonstration(member)
    make_ranking(member)
    make_slate(member.project)
    make_prompt(member.project)
    work.claim(member.project, annotator=member, kind=Kind.DEMONSTRATION)


def cost(client: Client) -> int:
    with CaptureQueriesContext(connection) as captured:
        home(client)
    return len(captured)
