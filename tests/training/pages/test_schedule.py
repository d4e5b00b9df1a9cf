"""When each run starts and ends, over all projects, and how long a round kept people waiting."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.models import AuditEvent, Member, Project, Ranking
from tests.audit_triggers import triggers_off
from tests.factories import make_member, make_project
from tests.training import engine_files, machine
from training.models import ModelVersion, Round, Run, Snapshot, TrainingSettings, Worker
from training.services.machines import workers
from training.services.pages import round_page, schedule
from training.services.pages.cadence import Cadence
from training.services.planning import plans
from training.services.planning.estimates import History
from training.services.running import rounds

NOW = timezone.now


def took(project: Project, stage: str, minutes: float, **fields: object) -> Run:
    """The project has done `stage` in a round before, in so many minutes."""
    number = project.rounds.count() + 1
    done = {"status": Round.Status.SUCCEEDED, "finished_at": NOW()}
    this_round = Round.objects.create(project=project, number=number, plan={}, **done)
    times = {"started_at": NOW() - timedelta(minutes=minutes), "finished_at": NOW()}
    return machine.queue_run(project, stage, **{"round": this_round, "status": Run.Status.SUCCEEDED} | times | fields)


def schedule_for(member: Member) -> schedule.Schedule:
    return schedule.forecast(member.user, member.project)


def minutes_left(run: Run) -> int | None:
    estimate = History([run.project_id]).estimate(run, now=NOW())
    return estimate and round(estimate.left / timedelta(minutes=1))


def minutes_from_now(job: schedule.Job) -> tuple[int | None, int | None]:
    now = NOW()
    return tuple(time and round((time - now) / timedelta(minutes=1)) for time in (job.start, job.end))  # type: ignore[return-value]


def cadence_of(this_round: Round) -> Cadence | None:
    return round_page.build(this_round, make_member(this_round.project, role="admin").user).cadence


@pytest.fixture
def this_round(project: Project) -> Round:
    """A round of which nothing is planned to come after what a test lets run."""
    return Round.objects.create(
        project=project, number=99, plan=plans.Plan(number=99, obstacle="", stages=[]).to_json()
    )


@pytest.fixture
def busy(project: Project, this_round: Round) -> Project:
    """One run has worked for 2 of its 10 minutes; an SFT waits, and something that nobody has timed."""
    took(project, "reward", 10)
    took(project, "sft", 4)
    times = {"started_at": NOW() - timedelta(minutes=2), "heartbeat_at": NOW()}
    running = machine.queue_run(project, "reward", round=this_round, status=Run.Status.RUNNING, **times)
    workers.beat("gpu@here", queue="gpu", host="here", device="2 CPU cores", pid=1)
    Worker.objects.update(run=running)
    machine.queue_run(project, "sft", round=this_round)
    return project


def test_what_waits_starts_when_the_worker_is_through_with_what_it_does(busy: Project, admin: Member) -> None:
    told = [minutes_from_now(job) for job in schedule_for(admin).jobs]
    assert told == [(-2, 8), (8, 12)]


def test_a_second_worker_takes_what_waits_at_once(busy: Project, admin: Member) -> None:
    workers.beat("gpu@there", queue="gpu", host="there", device="2 CPU cores", pid=2)
    assert [minutes_from_now(job) for job in schedule_for(admin).jobs] == [(-2, 8), (0, 4)]


def test_behind_a_run_that_nobody_can_estimate_nothing_is_said(busy: Project, this_round: Round, admin: Member) -> None:
    machine.queue_run(busy, "ppo", round=this_round)
    machine.queue_run(busy, "sampling", round=this_round)
    assert [minutes_from_now(job) for job in schedule_for(admin).jobs][2:] == [(12, None), (None, None)]


def test_nothing_comes_after_the_run_of_a_round_that_was_cancelled(
    busy: Project, this_round: Round, admin: Member
) -> None:
    before = len(schedule_for(admin).jobs)
    stages = [plans.StagePlan(stage=stage) for stage in ("reward", "ppo")]
    Round.objects.filter(pk=this_round.pk).update(plan=plans.Plan(number=99, obstacle="", stages=stages).to_json())
    assert len(schedule_for(admin).jobs) > before
    Round.objects.filter(pk=this_round.pk).update(status=Round.Status.CANCELLED)
    Run.objects.filter(status=Run.Status.RUNNING).update(cancel_requested=True)
    told = schedule_for(admin).jobs
    assert len(told) == before
    assert told[0].estimate is None


def test_runs_of_projects_that_one_may_not_see_take_their_time_and_say_nothing(busy: Project, client: Client) -> None:
    stranger = make_member(make_project("Elsewhere"), role="admin")
    machine.queue_run(stranger.project, "sft")
    client.force_login(stranger.user)
    shown = client.get(reverse("training:rounds", args=[stranger.project.slug])).content.decode()
    assert str(busy) not in shown
    assert shown.count("another project") == 4, "two runs, what the worker does, and what the own run waits for"
    assert "Waiting for a run of another project (about 8 min left) and 1 more" in shown
    assert [job.is_visible for job in schedule_for(stranger).jobs] == [False, False, True]


def test_a_run_whose_worker_is_silent_is_lost_in_the_queue_and_nobody_says_when_it_ends(
    client: Client, busy: Project, admin: Member
) -> None:
    Run.objects.filter(status=Run.Status.RUNNING).update(heartbeat_at=NOW() - timedelta(seconds=30))
    jobs = {job.stage: job for job in schedule_for(admin).jobs}
    assert (jobs["reward"].state, jobs["reward"].end) == ("lost", None)
    assert minutes_from_now(jobs["sft"]) == (0, 4), "another worker takes it"
    client.force_login(admin.user)
    shown = client.get(reverse("training:rounds", args=[busy.slug])).content.decode()
    assert "lost: worker not responding" in shown.split('id="queue"')[1]


def test_answers_to_a_single_question_say_nothing_about_the_sampling_of_a_round(
    project: Project, this_round: Round
) -> None:
    took(project, "sampling", 10)
    took(project, "sampling", 0.05, round=None)
    assert minutes_left(machine.queue_run(project, "sampling", round=this_round)) == 10
    assert minutes_left(machine.queue_run(project, "sampling")) == 0


def test_a_round_that_stood_still_for_a_night_says_nothing_about_the_next(project: Project, this_round: Round) -> None:
    took(project, "ppo", 10)
    took(project, "ppo", 500, attempt=2)
    failed = machine.queue_run(project, "ppo", status=Run.Status.FAILED)
    took(project, "ppo", 0.5, retry_of=failed)
    assert minutes_left(machine.queue_run(project, "ppo", round=this_round)) == 10


def test_a_night_between_two_attempts_is_no_part_of_the_pace(
    project: Project, this_round: Round, data_dir: Path
) -> None:
    times = {"started_at": NOW() - timedelta(hours=9), "heartbeat_at": NOW()}
    run = machine.queue_run(project, "ppo", round=this_round, status=Run.Status.RUNNING, fence=2, attempt=2, **times)
    night = 8 * 3600
    engine_files.write_times(run, [night + 60 * step for step in range(22, 0, -1)] + [60, 0], fence=2)
    engine_files.begin_attempt(run, 130, fence=2)
    assert minutes_left(run) == 17, "16 steps of 65 s: loading the model counts until a step was done since"


def test_a_run_that_was_resumed_is_judged_by_the_steps_that_it_did_itself(
    project: Project, this_round: Round, data_dir: Path
) -> None:
    run = machine.queue_run(
        project, "ppo", round=this_round, status=Run.Status.RUNNING, fence=1, attempt=1, started_at=NOW()
    )
    engine_files.write_times(run, [3600 + step for step in range(36, 0, -1)] + [0], fence=1)
    engine_files.begin_attempt(run, 120, fence=1)
    assert minutes_left(run) == 6


def test_a_run_that_goes_on_is_judged_by_its_steps_and_not_by_its_first_start(
    project: Project, this_round: Round
) -> None:
    took(project, "ppo", 40)
    times = {"started_at": NOW() - timedelta(hours=9), "heartbeat_at": NOW()}
    run = machine.queue_run(project, "ppo", round=this_round, status=Run.Status.RUNNING, attempt=2, **times)
    Run.objects.filter(pk=run.pk).update(step=10, total=40)
    assert minutes_left(Run.objects.get(pk=run.pk)) == 30


def test_nobody_says_when_a_held_run_ends_or_its_round(project: Project, this_round: Round, admin: Member) -> None:
    took(project, "sft", 4)
    machine.queue_run(project, "sft", round=this_round, status=Run.Status.HELD, started_at=NOW())
    told = schedule_for(admin)
    assert [job.end for job in told.jobs] == [None]
    assert told.end_of(this_round) is None


def test_the_end_of_a_round_counts_what_stands_before_it_in_the_queue(project: Project, admin: Member) -> None:
    other = make_project("Elsewhere")
    took(other, "reward", 30)
    took(project, "sft", 4)
    stage = plans.StagePlan(stage="sft")
    plan = plans.Plan(number=2, obstacle="", stages=[stage]).to_json()
    theirs, mine = (Round.objects.create(project=one, number=2, plan=plan) for one in (other, project))
    machine.queue_run(other, "reward", round=theirs)
    machine.queue_run(project, "sft", round=mine)
    end = schedule_for(admin).end_of(mine)
    assert end is not None
    assert round((end - NOW()) / timedelta(minutes=1)) == 34


def test_the_stages_of_a_round_that_are_to_come_stand_behind_it(
    project: Project, annotator: Member, base: ModelVersion, admin: Member
) -> None:
    machine.write_demonstrations(annotator, 3)
    took(project, "sft", 4)
    took(project, "sampling", 2)
    rounds.open(project, opened_by=None)
    jobs = schedule_for(admin).jobs
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
    plan = plans.draft(project).to_json()
    pressed = start + timedelta(minutes=5)
    fields = {"plan": plan, "snapshot": snapshot, "created_at": pressed, "status": Round.Status.SUCCEEDED}
    this_round = Round.objects.create(project=project, number=1, **fields)
    queued = pressed + timedelta(minutes=1)
    times = {
        "created_at": queued,
        "started_at": queued + timedelta(minutes=1),
        "finished_at": queued + timedelta(minutes=4),
    }
    machine.queue_run(project, "sampling", round=this_round, status=Run.Status.SUCCEEDED, **times)
    measured = cadence_of(this_round)
    assert measured is not None
    assert measured.enough_at == start + timedelta(minutes=2), "the third of four was the last one needed"
    assert measured.until_pressed == timedelta(minutes=3)
    assert measured.waiting_for_worker == timedelta(minutes=1)
    assert measured.training == timedelta(minutes=3)
    assert measured.stood_still == timedelta(minutes=1), "between the button and the run"
    assert measured.whole == timedelta(minutes=8)
    TrainingSettings.objects.update(rankings_minimum=1)
    assert cadence_of(this_round) == measured, "it was planned with another minimum"


def test_a_night_between_a_failure_and_its_retry_is_no_training(
    project: Project, annotator: Member, base: ModelVersion
) -> None:
    machine.write_demonstrations(annotator, 3)
    this_round = rounds.open(project, opened_by=None)
    start = this_round.created_at
    hours = [start + timedelta(hours=number) for number in range(12)]
    failed = this_round.runs.get()
    Run.objects.filter(pk=failed.pk).update(
        status=Run.Status.FAILED, created_at=hours[0], started_at=hours[0], finished_at=hours[1]
    )
    retry = {"created_at": hours[9], "started_at": hours[9], "finished_at": hours[10], "retry_of": failed}
    machine.queue_run(project, "sft", round=this_round, status=Run.Status.SUCCEEDED, **retry)
    times = {"created_at": hours[10], "started_at": hours[10], "finished_at": hours[11]}
    machine.queue_run(project, "sampling", round=this_round, status=Run.Status.SUCCEEDED, **times)
    with triggers_off(connection):
        AuditEvent.objects.filter(action__startswith="run.").delete()
    measured = cadence_of(this_round)
    assert measured is not None
    assert measured.training == timedelta(hours=3)
    assert measured.stood_still == timedelta(hours=8)


def test_a_round_under_way_says_since_when_people_wait(
    client: Client, project: Project, annotator: Member, base: ModelVersion, admin: Member
) -> None:
    machine.write_demonstrations(annotator, 3)
    this_round = rounds.open(project, opened_by=None)
    measured = cadence_of(this_round)
    assert measured is not None
    assert measured.whole is None
    client.force_login(admin.user)
    shown = client.get(reverse("training:round", args=[project.slug, 1])).content.decode()
    assert "The last label the round needed was submitted on" in shown
