"""The strip of a round: nine cells that say where it stands, from rows alone."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import Q
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.models import AuditEvent, Member, Project
from tests.audit_triggers import triggers_off
from tests.factories import make_member
from tests.training import engine_files, machine
from training.models import ModelVersion, Round, Run, Snapshot, TrainingSettings
from training.services.pages import round_page, round_strip
from training.services.pages.round_strip import Strip
from training.services.planning import plans
from training.services.running import rounds, runs
from training.services.running.runs import Ending


@pytest.fixture
def ready(project: Project, annotator: Member, base: ModelVersion) -> Project:
    machine.write_demonstrations(annotator, 3)
    return project


def strip_of(this_round: Round) -> Strip:
    """The strip as an admin sees it."""
    return round_page.build(this_round, make_member(this_round.project, role="admin").user).strip


def cell_of(this_round: Round, name: str) -> round_strip.Cell:
    return next(cell for cell in strip_of(this_round).cells if cell.name == name)


def planned_cells(project: Project) -> dict[str, round_strip.Cell]:
    planned = round_page.build_overview(project, make_member(project, role="admin").user).next
    assert planned is not None
    return {cell.name: cell for cell in planned.strip.cells}


def states(this_round: Round) -> dict[str, str]:
    return {cell.name: cell.state for cell in strip_of(this_round).cells}


def past_run(project: Project, stage: str, minutes: float, number: int = 1) -> Run:
    """A run of an earlier round that took so long."""
    now = timezone.now()
    plan = plans.draft(project).to_json()
    status = Round.Status.SUCCEEDED
    this_round = Round.objects.create(project=project, number=number, plan=plan, status=status, finished_at=now)
    times = {"started_at": now - timedelta(minutes=minutes), "finished_at": now}
    return machine.queue_run(project, stage, round=this_round, status=Run.Status.SUCCEEDED, **times)


def test_the_plan_has_nine_cells_and_says_why_it_leaves_some_out(ready: Project) -> None:
    cells = planned_cells(ready)
    assert list(cells) == ["collect", "freeze", "sft", "reward", "watcher", "ppo", "evaluation", "sampling", "open"]
    assert (cells["collect"].state, cells["collect"].count) == ("succeeded", "3 new answers")
    assert (cells["reward"].state, cells["reward"].reason) == ("left_out", "No rankings yet.")
    assert cells["sft"].estimate is None


@pytest.mark.parametrize(("minimum", "is_estimated"), [(4, True), (30, False)])
def test_how_long_collecting_takes_is_not_told_from_a_few_labels(
    ready: Project, minimum: int, is_estimated: bool
) -> None:
    TrainingSettings.objects.update(demonstrations_minimum=minimum)  # of which there are three
    assert (planned_cells(ready)["collect"].estimate is not None) == is_estimated


def test_an_estimate_names_the_round_that_it_is_taken_from(ready: Project) -> None:
    past_run(ready, "sft", minutes=4, number=3)
    cell = planned_cells(ready)["sft"]
    assert cell.estimate is not None
    assert (round(cell.estimate.whole.total_seconds()), cell.estimate.basis) == (240, "as in round 3")


def test_a_stage_under_way_is_judged_by_its_own_pace(ready: Project) -> None:
    past_run(ready, "sft", minutes=40)
    this_round = rounds.open(ready, opened_by=None)
    run = runs.claim(this_round.runs.get().pk, owner="gpu@here")
    assert run is not None
    engine_files.write_times(run, [48, 36, 24, 12, 0], total=20)
    runs.heartbeat(run, step=5, total=20)
    cell = cell_of(this_round, "sft")
    assert cell.is_current
    assert cell.count == "5/20"
    assert cell.estimate is not None
    assert (round(cell.estimate.left.total_seconds()), cell.estimate.basis) == (180, "at its current pace")


def test_the_strip_follows_a_round_to_its_open_sets(ready: Project) -> None:
    this_round = rounds.open(ready, opened_by=None)
    assert states(this_round) == {
        "collect": "succeeded",
        "freeze": "succeeded",
        "sft": "queued",
        "reward": "left_out",
        "watcher": "left_out",
        "ppo": "left_out",
        "evaluation": "left_out",
        "sampling": "waiting",
        "open": "waiting",
    }
    machine.work_off()
    last = cell_of(Round.objects.get(), "open")
    assert last.state == "succeeded"
    assert last.count.endswith("sets, 0 ranked")


def shown_cell(client: Client, admin: Member, project: Project, state: str) -> str:
    """The HTML of the cell in `state`, on the page of round 1."""
    client.force_login(admin.user)
    shown = client.get(reverse("training:round", args=[project.slug, 1])).content.decode()
    return shown.split(f'class="cell is-{state}"')[1].split("</li>")[0]


def test_a_failed_cell_holds_its_own_buttons_and_the_cells_after_it_say_why_nothing_came(
    client: Client, ready: Project, admin: Member
) -> None:
    this_round = rounds.open(ready, opened_by=None)
    run = runs.claim(this_round.runs.get().pk, owner="gpu@here")
    assert run is not None
    engine_files.write_checkpoint(run, 6)
    run.move_to(Run.Status.FAILED, error="The engine crashed.\n\nmore", finished_at=timezone.now())
    rounds.advance(this_round)
    cell = shown_cell(client, admin, ready, "failed")
    assert "The engine crashed." in cell
    for name, words in (("run-resume", "Resume at step 6"), ("run-repeat", "Run again from the start")):
        assert reverse(f"training:{name}", args=[ready.slug, run.pk]) in cell
        assert words in cell
    assert cell_of(Round.objects.get(), "sampling").reason == "The round ended before this stage."


def test_the_cell_of_a_held_run_lets_it_go_on(client: Client, ready: Project, admin: Member) -> None:
    run = rounds.open(ready, opened_by=None).runs.get()
    Run.objects.update(status=Run.Status.HELD, error="The disk is full.", ending={"kind": "disk"})
    cell = shown_cell(client, admin, ready, "held")
    assert "The disk was full." in cell
    assert reverse("training:run-release", args=[ready.slug, run.pk]) in cell


def test_a_cell_that_may_not_be_retried_offers_nothing(client: Client, ready: Project, admin: Member) -> None:
    this_round = rounds.open(ready, opened_by=None)
    this_round.runs.get().move_to(Run.Status.FAILED, error="It crashed.", finished_at=timezone.now())
    rounds.advance(this_round)
    Round.objects.create(project=ready, number=2, plan=this_round.plan, status=Round.Status.SUCCEEDED)
    assert "<button" not in shown_cell(client, admin, ready, "failed")


def test_a_cell_whose_worker_is_silent_says_that_it_is_lost(client: Client, ready: Project, admin: Member) -> None:
    this_round = rounds.open(ready, opened_by=None)
    runs.claim(this_round.runs.get().pk, owner="gpu@here")
    assert cell_of(this_round, "sft").state == "running"
    Run.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=30))
    assert "lost: worker not responding" in shown_cell(client, admin, ready, "lost")


def test_collect_means_the_new_labels_before_the_start_and_afterwards(ready: Project, annotator: Member) -> None:
    old = machine.make_snapshot(ready)
    machine.make_model(ready, "sft", snapshot=old)
    Round.objects.create(project=ready, number=1, plan={}, status=Round.Status.SUCCEEDED, snapshot=old)
    machine.write_demonstrations(annotator, 2)
    assert planned_cells(ready)["collect"].count == "2 new answers"
    this_round = rounds.open(ready, opened_by=None)
    assert this_round.snapshot is not None
    assert this_round.snapshot.counts["demonstrations"] == 5
    assert cell_of(this_round, "collect").count == "2 new answers"


def test_collecting_is_judged_by_how_fast_labels_have_come(
    project: Project, annotator: Member, base: ModelVersion
) -> None:
    machine.write_demonstrations(annotator, 1)
    Project.objects.filter(pk=project.pk).update(created_at=timezone.now() - timedelta(minutes=10))
    project.refresh_from_db()
    cell = planned_cells(project)["collect"]
    assert cell.is_current
    assert cell.elapsed is not None and cell.estimate is not None
    assert round(cell.elapsed / timedelta(minutes=1)) == 10
    assert round(cell.estimate.left / timedelta(minutes=1)) == 10, "one of the two came in ten minutes"


def test_freeze_and_open_are_estimated_by_the_round_before_and_by_all_that_comes_first(ready: Project) -> None:
    past_run(ready, "sft", minutes=4)
    before = Round.objects.get()
    snapshot = Snapshot.objects.create(
        project=ready, files={}, counts={}, sha256="0" * 64, created_at=before.created_at - timedelta(seconds=5)
    )
    Round.objects.update(snapshot=snapshot)
    assert planned_cells(ready)["open"].estimate is None, "nothing tells how long sampling takes"
    times = {"started_at": timezone.now() - timedelta(minutes=2), "finished_at": timezone.now()}
    machine.queue_run(ready, "sampling", round=before, status=Run.Status.SUCCEEDED, **times)
    cells = planned_cells(ready)
    assert cells["freeze"].estimate is not None and cells["open"].estimate is not None
    assert round(cells["freeze"].estimate.whole.total_seconds()) == 5
    assert round(cells["open"].estimate.whole / timedelta(minutes=1)) == 6


def dead_links(client: Client, address: str) -> list[str]:
    """Where the cells on a page lead that is not there."""
    shown = client.get(address).content.decode()
    links = re.findall(r'id="cell-\w+"\s+class="cell-name"\s+href="([^"]+)"', shown)
    assert len(links) == 9
    places = [link for link in links if link.startswith("#") and f'id="{link[1:]}"' not in shown]
    return places + [link for link in links if link.startswith("/") and client.get(link).status_code != 200]


def test_every_cell_leads_somewhere(client: Client, ready: Project, admin: Member) -> None:
    client.force_login(admin.user)
    assert dead_links(client, reverse("training:rounds", args=[ready.slug])) == []
    rounds.open(ready, opened_by=None)
    assert dead_links(client, reverse("training:round", args=[ready.slug, 1])) == []


def test_what_a_round_stood_still_is_no_part_of_what_its_stage_took(ready: Project) -> None:
    this_round = rounds.open(ready, opened_by=None)
    first = runs.claim(this_round.runs.get().pk, owner="gpu@here")
    assert first is not None
    runs.finish(first, Ending(75, "Stopped."))
    second = runs.claim(first.pk, owner="gpu@here")
    assert second is not None
    set_audit_times({"run.running": [600, 10], "run.interrupted": [590]})
    cell = cell_of(this_round, "sft")
    assert cell.elapsed is not None
    assert round(cell.elapsed.total_seconds()) == 20


def set_audit_times(seconds_ago: dict[str, list[float]]) -> None:
    """Date the audit rows of each action, in their order, so many seconds back; what was queued came first of all."""
    now = timezone.now()
    Run.objects.update(created_at=now - timedelta(seconds=700), started_at=now - timedelta(seconds=600))
    queued = AuditEvent.objects.filter(action="run.queued").order_by("pk").values_list("pk", flat=True)
    dated = dict(zip(queued, [700, 590], strict=False))
    for action, times in seconds_ago.items():
        found = AuditEvent.objects.filter(action=action).order_by("pk").values_list("pk", flat=True)
        dated |= dict(zip(found, times, strict=True))
    with triggers_off(connection):
        for pk, ago in dated.items():
            AuditEvent.objects.filter(pk=pk).update(created_at=now - timedelta(seconds=ago))


def test_every_step_of_a_round_and_its_runs_is_a_row_of_the_audit_table(ready: Project, admin: Member) -> None:
    this_round = rounds.open(ready, opened_by=admin.user)
    run = runs.claim(this_round.runs.get().pk, owner="gpu@here")
    assert run is not None
    rounds.cancel(this_round, actor=admin.user)
    moved = Q(action__startswith="round.") | Q(action__startswith="run.")
    events = AuditEvent.objects.filter(moved, project=ready).order_by("pk")
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
    this_round = rounds.open(ready, opened_by=None)
    mine, theirs = Run.objects.get(), Run.objects.get()
    theirs.move_to(Run.Status.CANCELLED, finished_at=timezone.now())
    before = AuditEvent.objects.count()
    with pytest.raises(Exception, match="no longer"):
        mine.move_to(Run.Status.RUNNING)
    assert AuditEvent.objects.count() == before
    assert this_round.number == 1
