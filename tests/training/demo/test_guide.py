"""The guide of a demo project says what to do next, to each role, by what is done already."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import Kind, Member, Project, Role, User
from tests.factories import make_member, make_project, make_slate
from tests.training import machine
from training.models import Promotion, Round, TrainingSettings
from training.services.demo import guide
from training.services.demo import project as demo_project
from training.services.demo.guide import Offer, State

pytestmark = pytest.mark.django_db


@pytest.fixture
def demo(data_dir) -> Project:
    return demo_project.create(has_answers=False)


@pytest.fixture
def admin(demo: Project) -> User:
    return User.objects.get(email=demo_project.SITE_ADMIN)


def now(project: Project, user: User) -> str:
    steps = guide.build(project, user, Role.ADMIN).steps
    return next((step.title for step in steps if step.state == State.NOW), "")


def finish_round(project: Project, number: int) -> None:
    Round.objects.create(project=project, number=number, plan={"stages": []}, status=Round.Status.SUCCEEDED)


def test_a_newcomer_is_told_to_start_round_1(client: Client, demo: Project, admin: User) -> None:
    assert now(demo, admin) == "Start round 1"
    client.force_login(admin)
    for page in (reverse("annotate:home"), reverse("annotate:project", args=[demo.slug])):
        shown = client.get(page).content.decode()
        assert "Start round 1" in shown
        assert reverse("training:rounds", args=[demo.slug]) in shown


def test_after_round_1_people_rank_and_simulated_people_do_the_rest(demo: Project, admin: User) -> None:
    finish_round(demo, 1)
    member = Member.objects.get(project=demo, user=admin)
    machine.rank_new_slates(member, 2)
    assert now(demo, admin) == "Rank the first answers"
    machine.rank_new_slates(member, 1)
    assert now(demo, admin) == "Let simulated people rank the rest"


def test_what_is_offered_is_what_is_missing_as_far_as_there_is_work(demo: Project, admin: User) -> None:
    finish_round(demo, 1)
    assert guide.build(demo, admin, Role.ADMIN).offer is None  # nothing to rank
    for _number in range(5):
        make_slate(demo)
    assert guide.build(demo, admin, Role.ADMIN).offer == Offer(kind=Kind.RANKING, number=5)
    TrainingSettings.objects.update(rankings_minimum=3)
    assert guide.build(demo, admin, Role.ADMIN).offer == Offer(kind=Kind.RANKING, number=3)


def test_some_sets_are_left_for_people(demo: Project, admin: User) -> None:
    finish_round(demo, 1)
    TrainingSettings.objects.update(rankings_minimum=3)
    prompt = machine.make_prompts(demo, 1)[0]
    for _number in range(guide.LEFT_FOR_PEOPLE + 10):
        make_slate(demo, prompt=prompt)
    assert guide.build(demo, admin, Role.ADMIN).offer == Offer(kind=Kind.RANKING, number=10)


def test_after_round_2_the_last_step_is_to_promote(demo: Project, admin: User) -> None:
    for number in (1, 2):
        finish_round(demo, number)
    assert now(demo, admin).startswith("Compare and promote")
    Promotion.objects.create(project=demo, model_version=machine.make_model(demo, "ppo"), reason="Better.")
    assert now(demo, admin) == ""


@pytest.mark.parametrize(("who", "first"), [("annotator", "Read the guidelines"), ("reviewer", "Review labels")])
def test_annotators_and_reviewers_are_greeted_with_their_own_work(
    client: Client, demo: Project, who: str, first: str
) -> None:
    client.force_login(User.objects.get(email=f"{who}@roundtable.example"))
    shown = client.get(reverse("annotate:home")).content.decode()
    assert first in shown
    assert "Start round 1" not in shown


def test_other_projects_have_no_guide(client: Client, demo: Project) -> None:
    project = make_project("Ours")
    member = make_member(project, role="admin")
    TrainingSettings.objects.create(project=project)
    assert guide.panels({project: Role.ADMIN}, member.user) == {}


def test_finished_rounds_are_offered_to_those_who_may_open_them(demo: Project, admin: User) -> None:
    example = make_project("Example")
    TrainingSettings.objects.create(project=example, purpose=TrainingSettings.Purpose.EXAMPLE)
    member = make_member(demo, role="admin")
    assert member.user is not None
    assert guide.build(demo, admin, Role.ADMIN).example == example
    assert guide.build(demo, member.user, Role.ADMIN).example is None
