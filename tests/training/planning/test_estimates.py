"""How long a stage will take where the project has never done it: as in another project like it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from annotate.models import Member, Project
from tests.factories import make_project
from tests.training import engine_files, machine
from training.models import ModelVersion, Round, Run
from training.services.machines import workers
from training.services.pages import schedule
from training.services.planning import plans, preflight
from training.services.planning.estimates import History
from training.services.planning.plans import StagePlan
from training.stages import ParentRole, Stage
from training.stages.planning import PlannedParent


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


def done_ppo(project: Project, *, watched: bool) -> Run:
    """A PPO of the tiny preset that took ten minutes, six seconds for each iteration of 128 answers."""
    now = timezone.now()
    times = {"started_at": now - timedelta(minutes=10), "finished_at": now}
    round = make_round(project, rankings=100)
    run = engine_files.make_run(project, fence=1, status=Run.Status.SUCCEEDED, round=round, **times)
    if watched:
        watch(run)
    engine_files.begin_attempt(run, 300)
    engine_files.write_times(run, [240.0 - 6 * step for step in range(40)])
    return run


def watch(run: Run, **settings: int) -> None:
    """Give a PPO a watcher, and other settings."""
    file = run.directory / "config.json"
    config = json.loads(file.read_text("utf-8"))
    parents = config["parents"] | {"watcher": config["parents"]["reward"]}
    file.write_text(json.dumps(config | {"parents": parents} | settings), "utf-8")


def planned_ppo(project: Project, **ppo: object) -> tuple[int, str] | None:
    """Minutes of a PPO that is to be watched, by the tiny preset and the settings `ppo`; and what is in them."""
    machine.make_settings(project, base_model="tiny", overrides={"ppo": ppo})
    stage = StagePlan(
        stage=Stage.PPO, parents={ParentRole.WATCHER: PlannedParent(name="watcher-1")}, counts={"prompts": 50}
    )
    found = History([project.pk]).of_planned(project.pk, stage)
    return found and (round(found.whole / timedelta(minutes=1)), found.remark)


def test_a_ppo_that_is_watched_for_the_first_time_takes_its_trial_and_measurements_longer(
    project: Project, data_dir: Path
) -> None:
    done_ppo(project, watched=False)
    # 50 prompts 16 times, and 128 answers after 0, 5, ... 60 iterations, are 2464; 128 of them take 6 s at most.
    assert planned_ppo(project) == (
        12,
        "This includes at most 2 min for the trial of the reward and the independent judge's measurements, "
        "which the earlier PPO did without.",
    )


def test_what_a_watched_ppo_took_has_its_trial_already(project: Project, data_dir: Path) -> None:
    done_ppo(project, watched=True)
    assert planned_ppo(project, trial_answers=1000) == (
        10,
        "This includes the trial of the reward and the independent judge's measurements.",
    )


def test_a_ppo_whose_settings_do_without_the_judge_has_no_trial(project: Project, data_dir: Path) -> None:
    done_ppo(project, watched=False)
    assert planned_ppo(project, gauge_every=0) == (10, "")


@pytest.mark.parametrize(("times", "minutes", "basis"), [(1, 10, ""), (3, 30, ", at the present settings")])
def test_more_of_the_same_takes_as_much_longer(
    project: Project, data_dir: Path, times: int, minutes: int, basis: str
) -> None:
    done_ppo(project, watched=True)
    iterations = times * int(json.loads((Run.objects.get().directory / "config.json").read_text("utf-8"))["iterations"])
    machine.make_settings(project, base_model="tiny", overrides={"ppo": {"iterations": iterations}})
    stage = StagePlan(stage=Stage.PPO, parents={}, counts={"prompts": 50})
    found = History([project.pk]).of_planned(project.pk, stage)
    assert found
    assert (round(found.whole / timedelta(minutes=1)), found.basis) == (minutes, f"as in round 1{basis}")


def test_a_run_that_waits_is_estimated_with_its_own_settings(project: Project, data_dir: Path) -> None:
    done_ppo(project, watched=True)
    waiting = engine_files.make_run(project, round=make_round(project, rankings=100))
    file = waiting.directory / "config.json"
    config = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps(config | {"iterations": 2 * config["iterations"]}), "utf-8")
    assert estimated(waiting) == (20, "as in round 1, at the present settings")


def test_where_nothing_tells_how_long_an_answer_takes_the_trial_is_said_to_come_on_top(
    project: Project, data_dir: Path
) -> None:
    shutil.rmtree(done_ppo(project, watched=False).directory)
    assert planned_ppo(project) == (
        10,
        "The trial of the reward and the independent judge's measurements come on top.",
    )


def test_a_watched_ppo_that_waits_is_estimated_with_its_own_settings(project: Project, data_dir: Path) -> None:
    done_ppo(project, watched=False)
    waiting = engine_files.make_run(project, round=make_round(project, rankings=100))
    watch(waiting, trial_answers=0, gauge_prompts=1280, gauge_every=40)  # at 0, 40 and 60: 3 minutes
    assert estimated(waiting) == (13, "as in round 1, plus trial and measurements")


def test_the_plan_says_whether_its_time_has_the_trial(project: Project, base: ModelVersion) -> None:
    took(project, 10, Stage.PPO, round=make_round(project, rankings=100))
    drafted = plans.draft(project)
    parent = PlannedParent(name=base.name, model_version=base.pk)
    ppo = StagePlan(stage=Stage.PPO, parents=dict.fromkeys(["policy", "reference", "reward", "watcher"], parent))
    others = [replace(stage, reason="Left out.") for stage in drafted.stages if stage.stage != Stage.PPO]
    found = preflight.check(project, replace(drafted, stages=[*others, ppo]), preflight.gather(project))
    assert (
        "Time: about 10 min, as in round 1. "
        "The trial of the reward and the independent judge's measurements come on top."
    ) in [line.text for line in found.lines]


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
