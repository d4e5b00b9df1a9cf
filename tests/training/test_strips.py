"""The strip of a round: eight cells that say where it stands, from rows alone."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.models import AuditEvent, Member, Project
from tests.training import machine
from training.models import ModelVersion, Round, Run
from training.services import plans, rounds, runs, strips


@pytest.fixture
def ready(project: Project, annotator: Member, base: ModelVersion) -> Project:
    machine.write_demonstrations(annotator, 3)
    return project


def states(turn: Round) -> dict[str, str]:
    return {cell.name: cell.state for cell in strips.of(turn).cells}


def past_run(project: Project, stage: str, minutes: float, number: int = 1) -> Run:
    """A run of an earlier round that took so long."""
    now = timezone.now()
    plan = plans.make(project).to_json()
    status = Round.Status.SUCCEEDED
    turn = Round.objects.create(project=project, number=number, plan=plan, status=status, finished_at=now)
    times = {"started_at": now - timedelta(minutes=minutes), "finished_at": now}
    return machine.queue_run(project, stage, round=turn, status=Run.Status.SUCCEEDED, **times)


def test_the_plan_has_eight_cells_and_says_why_it_leaves_some_out(ready: Project) -> None:
    cells = {cell.name: cell for cell in strips.planned(ready, plans.make(ready)).cells}
    assert list(cells) == ["collect", "freeze", "sft", "reward", "ppo", "evaluation", "sampling", "open"]
    assert (cells["collect"].state, cells["collect"].count) == ("succeeded", "3 answers")
    assert (cells["reward"].state, cells["reward"].reason) == ("left_out", "No rankings yet.")
    assert cells["sft"].estimate is None


def test_an_estimate_names_the_round_that_it_is_taken_from(ready: Project) -> None:
    past_run(ready, "sft", minutes=4, number=3)
    cell = next(cell for cell in strips.planned(ready, plans.make(ready)).cells if cell.name == "sft")
    assert cell.estimate is not None
    assert (round(cell.estimate.whole.total_seconds()), cell.estimate.basis) == (240, "as in round 3")


def test_a_stage_under_way_is_judged_by_its_own_pace(ready: Project) -> None:
    past_run(ready, "sft", minutes=40)
    turn = rounds.open(ready, opened_by=None)
    run = runs.claim(turn.runs.get().pk, owner="gpu@here")
    assert run is not None
    runs.heartbeat(run, step=5, total=20)
    Run.objects.filter(pk=run.pk).update(started_at=timezone.now() - timedelta(minutes=1))
    cell = next(cell for cell in strips.of(turn).cells if cell.name == "sft")
    assert cell.is_current
    assert cell.count == "5/20"
    assert cell.estimate is not None
    assert (round(cell.estimate.left.total_seconds(), -1), cell.estimate.basis) == (180, "at its own pace")


def test_the_strip_follows_a_round_to_its_open_sets(ready: Project) -> None:
    turn = rounds.open(ready, opened_by=None)
    assert states(turn) == {
        "collect": "succeeded",
        "freeze": "succeeded",
        "sft": "queued",
        "reward": "left_out",
        "ppo": "left_out",
        "evaluation": "left_out",
        "sampling": "waiting",
        "open": "waiting",
    }
    machine.work_off()
    last = strips.of(Round.objects.get()).cells[-1]
    assert last.state == "succeeded"
    assert last.count.endswith("sets, 0 ranked")


def test_a_failed_cell_holds_its_own_button_and_the_cells_after_it_say_why_nothing_came(
    client: Client, ready: Project, admin: Member
) -> None:
    turn = rounds.open(ready, opened_by=None)
    turn.runs.get().move_to(
        Run.Status.FAILED, error="The model directory has changed.\nmore", finished_at=timezone.now()
    )
    rounds.advance(turn)
    client.force_login(admin.user)
    shown = client.get(reverse("training:round", args=[ready.slug, 1])).content.decode()
    cell = shown.split('class="cell is-failed"')[1].split("</li>")[0]
    assert "The model directory has changed." in cell
    assert "See what to do" in cell
    assert "The round ended before it." in shown


def test_every_step_of_a_round_and_its_runs_is_a_row_of_the_audit_table(ready: Project, admin: Member) -> None:
    turn = rounds.open(ready, opened_by=admin.user)
    run = runs.claim(turn.runs.get().pk, owner="gpu@here")
    assert run is not None
    rounds.cancel(turn, actor=admin.user)
    events = AuditEvent.objects.filter(project=ready).exclude(action__startswith="prompt").order_by("pk")
    told = [(event.action, event.actor) for event in events]
    assert told == [
        ("round.opened", admin.user),
        ("round.running", None),
        ("run.queued", None),
        ("run.running", None),
        ("round.cancelled", admin.user),
    ]
    assert events[3].subject == f"sft run {run.pk} of round 1"
    assert events[3].detail == {"came_from": "queued"}


def test_a_step_that_somebody_else_took_first_leaves_no_row(ready: Project) -> None:
    turn = rounds.open(ready, opened_by=None)
    mine, theirs = Run.objects.get(), Run.objects.get()
    theirs.move_to(Run.Status.CANCELLED, finished_at=timezone.now())
    before = AuditEvent.objects.count()
    with pytest.raises(Exception, match="no longer"):
        mine.move_to(Run.Status.RUNNING)
    assert AuditEvent.objects.count() == before
    assert turn.number == 1
