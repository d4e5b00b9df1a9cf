"""How long a stage will take where the project has never done it: as in another project like it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from annotate.models import Member, Project
from tests.factories import make_project
from tests.training import machine
from training.models import Round, Run
from training.services.machines import workers
from training.services.pages import schedule
from training.services.planning import plans
from training.services.planning.estimates import History
from training.stages import Stage


def make_round(project: Project, *, rankings: int) -> Round:
    stage = plans.StagePlan(stage=Stage.REWARD, counts={"rankings": rankings})
    number = project.rounds.count() + 1
    plan = plans.Plan(number=number, obstacle="", stages=[stage]).to_json()
    return Round.objects.create(project=project, number=number, plan=plan, status=Round.Status.SUCCEEDED)


def took(project: Project, minutes: float, stage: str = Stage.REWARD, **fields: object) -> Run:
    now = timezone.now()
    times = {"started_at": now - timedelta(minutes=minutes), "finished_at": now}
    return machine.queue_run(project, stage, status=Run.Status.SUCCEEDED, **times, **fields)


def elsewhere(minutes: float, *, rankings: int, base_model: str = machine.BASE, name: str = "") -> Project:
    """Another project that has trained a reward model on so many rankings, in so many minutes."""
    other = make_project(name)
    machine.make_settings(other, base_model=base_model)
    took(other, minutes, round=make_round(other, rankings=rankings))
    return other


def estimated(run: Run) -> tuple[int, str] | None:
    found = History([run.project_id]).estimate(run, now=timezone.now())
    return found and (round(found.whole / timedelta(minutes=1)), found.basis)


@pytest.fixture
def waiting(project: Project) -> Run:
    """A reward stage on 100 rankings, which this project has never done."""
    machine.make_settings(project)
    return machine.queue_run(project, Stage.REWARD, round=make_round(project, rankings=100))


def test_the_time_of_another_project_with_about_as_much_work_is_taken(waiting: Run) -> None:
    elsewhere(50, rankings=180)
    elsewhere(10, rankings=110)
    elsewhere(40, rankings=60)
    assert estimated(waiting) == (10, "as in another project")


@pytest.mark.parametrize("difference", [{"rankings": 201}, {"rankings": 49}, {"rankings": 100, "base_model": "larger"}])
def test_a_project_that_does_much_more_or_less_says_nothing(waiting: Run, difference: dict) -> None:  # type: ignore[type-arg]
    elsewhere(10, **difference)
    assert estimated(waiting) is None


def test_what_the_project_has_done_itself_counts_more(waiting: Run) -> None:
    elsewhere(10, rankings=100)
    took(waiting.project, 3, round=make_round(waiting.project, rankings=10))
    assert estimated(waiting) == (3, "as in round 2")


def test_a_second_pretraining_takes_what_the_same_one_took_in_another_project(project: Project) -> None:
    other = make_project()
    for one in (other, project):
        machine.make_settings(one, base_model="tiny")
    took(other, 14, Stage.PRETRAINING)
    assert estimated(machine.queue_run(project, Stage.PRETRAINING)) == (14, "as in another project")


def test_the_number_of_projects_changes_nothing_in_the_number_of_statements(waiting: Run) -> None:
    counts = []
    for _ in range(3):
        elsewhere(10, rankings=100)
        with CaptureQueriesContext(connection) as captured:
            assert estimated(waiting)
        counts.append(len(captured))
    assert len(set(counts)) == 1


def test_a_wait_is_named_with_its_time_to_those_who_may_know(client: Client, waiting: Run, admin: Member) -> None:
    other = elsewhere(10, rankings=100, name="Secret plans")
    workers.beat("gpu@here", queue="gpu", host="here", device="2 CPU cores", pid=1)
    times = {"started_at": timezone.now() - timedelta(minutes=6), "heartbeat_at": timezone.now()}
    theirs = make_round(other, rankings=100)
    machine.queue_run(other, Stage.REWARD, round=theirs, status=Run.Status.RUNNING, **times)
    machine.queue_run(other, Stage.REWARD, round=make_round(other, rankings=100))
    Run.objects.filter(pk=waiting.pk).update(position=Run.last_position() + 1)
    address = reverse("training:run", args=[waiting.project.slug, waiting.pk])

    client.force_login(admin.user)
    shown = client.get(address).content.decode()
    starts = schedule.forecast(admin.user).jobs[2].start
    assert starts is not None
    assert (
        f"Waiting for a run of another project (about 4 min left) and 1 more; starts at about {starts:%H:%M}." in shown
    )
    assert "Secret plans" not in shown

    Member.objects.create(project=other, user=admin.user, role="admin")
    assert "Waiting for reward model of round 2 in “Secret plans” (about 4 min left) and 1 more" in (
        client.get(address).content.decode()
    )


def test_what_waits_behind_a_pretraining_that_runs_says_so(client: Client, waiting: Run, admin: Member) -> None:
    workers.beat("gpu@here", queue="gpu", host="here", device="2 CPU cores", pid=1)
    now = timezone.now()
    machine.queue_run(waiting.project, Stage.PRETRAINING, status=Run.Status.RUNNING, started_at=now, heartbeat_at=now)
    plan = plans.draft(waiting.project).to_json()
    Round.objects.update(plan=plan, status=Round.Status.RUNNING)
    client.force_login(admin.user)
    shown = client.get(reverse("training:round", args=[waiting.project.slug, 1])).content.decode()
    assert f"Waiting for pretraining in “{waiting.project}”; start time unknown." in shown
