"""When each run starts and ends, over all projects, and how long a round kept people waiting."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.models import Member, Project, Ranking
from tests.factories import make_member, make_project
from tests.training import machine
from training.models import ModelVersion, Round, Run, Snapshot, TrainingSettings, Worker
from training.services import cadence, plans, rounds, schedule, workers

NOW = timezone.now


def took(project: Project, stage: str, minutes: float) -> None:
    """The project has done `stage` before, in so many minutes."""
    times = {"started_at": NOW() - timedelta(minutes=minutes), "finished_at": NOW()}
    machine.queue_run(project, stage, status=Run.Status.SUCCEEDED, **times)


def minutes_from_now(job: schedule.Job) -> tuple[int | None, int | None]:
    now = NOW()
    return tuple(time and round((time - now) / timedelta(minutes=1)) for time in (job.start, job.end))  # type: ignore[return-value]


@pytest.fixture
def busy(project: Project) -> Project:
    """One run has worked for 2 of its 10 minutes; an SFT waits, and something that nobody has timed."""
    took(project, "reward", 10)
    took(project, "sft", 4)
    running = machine.queue_run(project, "reward", status=Run.Status.RUNNING)
    Run.objects.filter(pk=running.pk).update(started_at=NOW() - timedelta(minutes=2))
    workers.beat("gpu@here", queue="gpu", host="here", device="2 CPU cores", pid=1)
    Worker.objects.update(run=running)
    machine.queue_run(project, "sft")
    return project


def test_what_waits_starts_when_the_worker_is_through_with_what_it_does(busy: Project, admin: Member) -> None:
    told = [minutes_from_now(job) for job in schedule.of(admin.user).jobs]
    assert told == [(-2, 8), (8, 12)]


def test_a_second_worker_takes_what_waits_at_once(busy: Project, admin: Member) -> None:
    workers.beat("gpu@there", queue="gpu", host="there", device="2 CPU cores", pid=2)
    assert [minutes_from_now(job) for job in schedule.of(admin.user).jobs] == [(-2, 8), (0, 4)]


def test_behind_a_run_that_nobody_can_estimate_nothing_is_said(busy: Project, admin: Member) -> None:
    machine.queue_run(busy, "ppo")
    machine.queue_run(busy, "sft")
    assert [minutes_from_now(job) for job in schedule.of(admin.user).jobs][2:] == [(12, None), (None, None)]


def test_runs_of_projects_that_one_may_not_see_take_their_time_and_say_nothing(busy: Project, client: Client) -> None:
    stranger = make_member(make_project("Elsewhere"), role="admin")
    machine.queue_run(stranger.project, "sft")
    client.force_login(stranger.user)
    shown = client.get(reverse("training:rounds", args=[stranger.project.slug])).content.decode()
    assert str(busy) not in shown
    assert shown.count("another project") == 3, "two runs, and what the worker does"
    assert [job.is_visible for job in schedule.of(stranger.user).jobs] == [False, False, True]


def test_the_stages_of_a_round_that_are_to_come_stand_behind_it(
    project: Project, annotator: Member, base: ModelVersion, admin: Member
) -> None:
    machine.write_demonstrations(annotator, 3)
    took(project, "sft", 4)
    took(project, "sampling", 2)
    rounds.open(project, opened_by=None)
    jobs = schedule.of(admin.user).jobs
    assert [(job.stage, job.state) for job in jobs] == [("sft", "queued"), ("sampling", "waiting")]
    assert [minutes_from_now(job) for job in jobs] == [(0, 4), (4, 6)]


def test_the_cadence_counts_from_the_last_label_needed_to_the_next_answers(
    project: Project, annotator: Member, base: ModelVersion
) -> None:
    machine.rank_new_slates(annotator, 4)
    TrainingSettings.objects.update(rankings_minimum=3)
    start = NOW() - timedelta(minutes=30)
    for number, ranking in enumerate(Ranking.objects.order_by("pk")):
        Ranking.objects.filter(pk=ranking.pk).update(created_at=start + timedelta(minutes=number))
    snapshot = Snapshot.objects.create(project=project, files={}, counts={}, sha256="0" * 64)
    snapshot.rankings.set(Ranking.objects.all())
    plan = plans.make(project).to_json()
    pressed = start + timedelta(minutes=5)
    fields = {"plan": plan, "snapshot": snapshot, "created_at": pressed, "status": Round.Status.SUCCEEDED}
    turn = Round.objects.create(project=project, number=1, **fields)
    queued = pressed + timedelta(minutes=1)
    times = {
        "created_at": queued,
        "started_at": queued + timedelta(minutes=1),
        "finished_at": queued + timedelta(minutes=4),
    }
    machine.queue_run(project, "sampling", round=turn, status=Run.Status.SUCCEEDED, **times)
    measured = cadence.of(turn)
    assert measured is not None
    assert measured.enough_at == start + timedelta(minutes=2), "the third of four was the last one needed"
    assert measured.until_pressed == timedelta(minutes=3)
    assert measured.waiting_for_worker == timedelta(minutes=1)
    assert measured.training == timedelta(minutes=4)
    assert measured.whole == timedelta(minutes=8)


def test_a_round_under_way_says_since_when_people_wait(
    client: Client, project: Project, annotator: Member, base: ModelVersion, admin: Member
) -> None:
    machine.write_demonstrations(annotator, 3)
    turn = rounds.open(project, opened_by=None)
    measured = cadence.of(turn)
    assert measured is not None
    assert measured.whole is None
    client.force_login(admin.user)
    shown = client.get(reverse("training:round", args=[project.slug, 1])).content.decode()
    assert "The last label that the round needed came on" in shown
