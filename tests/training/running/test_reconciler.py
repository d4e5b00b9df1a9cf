"""The sweep mends what a lost message, a dead worker or a crash between two steps left undone."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from celery import current_app
from django.utils import timezone
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from annotate.models import Assignment, Member, Project
from tests.factories import make_assignment, make_project
from tests.training import machine
from training import doorbell, heartbeat
from training.models import ModelVersion, Round, Run, Worker
from training.rlhf.run import manifest
from training.services.machines import resources, workers
from training.services.registry import base_models
from training.services.running import reconciler, rounds, runs
from training.stages import Stage

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def make_worker(name: str = "gpu@one", *, seconds_ago: float = 0, run: Run | None = None) -> Worker:
    workers.beat(name, queue="gpu", host="here", device="2 CPU cores", pid=1)
    Worker.objects.update(run=run, heartbeat_at=timezone.now() - timedelta(seconds=seconds_ago))
    return Worker.objects.get()


def rung(run: Run, seconds_ago: float) -> Run:
    Run.objects.filter(pk=run.pk).update(rung_at=timezone.now() - timedelta(seconds=seconds_ago))
    return run


def has_rung(run: Run) -> bool:
    stored = Run.objects.get(pk=run.pk)
    return stored.rung_at is not None and stored.rung_at > timezone.now() - timedelta(seconds=5)


@pytest.mark.broker
def test_a_run_that_nobody_heard_of_is_rung_again(
    project: Project, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    make_worker()
    unheard, long_ago, just_now = (
        machine.queue_run(project),
        rung(machine.queue_run(project), 25),
        rung(machine.queue_run(project), 8),
    )
    with django_capture_on_commit_callbacks(execute=True):
        reconciler.ring_again()
    assert [has_rung(run) for run in (unheard, long_ago, just_now)] == [True, True, False]


def test_rings_do_not_pile_up_while_every_worker_is_busy(
    project: Project, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    make_worker(run=machine.queue_run(project, status=Run.Status.RUNNING))
    minutes, quarter = rung(machine.queue_run(project), 120), rung(machine.queue_run(project), 900)
    with django_capture_on_commit_callbacks() as rings:
        reconciler.ring_again()
    assert len(rings) == 1
    assert (minutes.pk, quarter.pk) == (minutes.pk, quarter.pk)


@pytest.mark.broker
def test_an_unreachable_broker_is_nobodys_error(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    monkeypatch.setitem(current_app.conf, "broker_url", "redis://127.0.0.1:1/0")
    run = machine.queue_run(project)
    started = time.monotonic()
    with django_capture_on_commit_callbacks(execute=True):
        doorbell.ring(run)
    assert time.monotonic() - started < 5
    assert Run.objects.get(pk=run.pk).rung_at is None


def test_a_sweep_reclaims_advances_and_expires(project: Project, annotator: Member, base: ModelVersion) -> None:
    machine.write_demonstrations(annotator, 2)
    round = rounds.open(project, opened_by=None)
    run = runs.claim(round.runs.get().pk, owner="gpu@dead")
    assert run is not None
    machine.let_lease_end(run)
    held = make_assignment(annotator)
    Assignment.objects.filter(pk=held.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    Worker.objects.create(name="old", queue="gpu", host="", pid=1, heartbeat_at=timezone.now() - timedelta(days=2))

    reconciler.sweep()
    assert Run.objects.get(pk=run.pk).status == Run.Status.QUEUED
    held.refresh_from_db()
    assert held.status == Assignment.Status.EXPIRED
    assert not Worker.objects.exists()


def test_a_round_is_moved_on_whose_worker_died_after_the_stage(
    project: Project, annotator: Member, base: ModelVersion
) -> None:
    machine.write_demonstrations(annotator, 2)
    round = rounds.open(project, opened_by=None)
    Run.objects.update(status=Run.Status.FAILED, error="the disk broke")
    reconciler.sweep()
    round.refresh_from_db()
    assert round.status == Round.Status.FAILED


def test_one_project_that_cannot_be_reconciled_does_not_hold_up_the_others(
    project: Project, annotator: Member, base: ModelVersion
) -> None:
    broken = make_project()
    Round.objects.create(project=broken, number=1, plan={"nonsense": True})
    test_a_round_is_moved_on_whose_worker_died_after_the_stage(project, annotator, base)


def test_a_project_gets_the_built_in_base_model_without_a_run(project: Project, data_dir: Path) -> None:
    machine.make_settings(project, base_model="tiny")
    reconciler.register_base_models()
    reconciler.register_base_models()
    base = ModelVersion.objects.get()
    assert (base.name, base.config["stage"]) == ("base-1", "pretraining")
    assert manifest.verifies(base.directory)
    assert [path.name for path in (data_dir / "models").iterdir()] == [str(base.uuid)]
    assert not Run.objects.exists()


def test_a_pretraining_of_an_older_version_is_waited_for(project: Project, data_dir: Path) -> None:
    machine.make_settings(project, base_model="tiny")
    run = machine.queue_run(project, Stage.PRETRAINING)
    reconciler.register_base_models()
    assert not ModelVersion.objects.exists()
    Run.objects.filter(pk=run.pk).update(status=Run.Status.FAILED)
    reconciler.register_base_models()
    assert ModelVersion.objects.get().name == "base-1"


def test_a_folder_outside_the_allow_list_is_refused(project: Project, data_dir: Path) -> None:
    machine.make_settings(project, base_model="../secrets")
    with pytest.raises(base_models.UnknownFolder):
        base_models.register(project)


@pytest.mark.parametrize(("seconds_ago", "is_alive"), [(0, True), (20, True), (29, False)])
def test_a_worker_that_was_silent_for_half_a_minute_is_gone(seconds_ago: float, is_alive: bool) -> None:
    make_worker(seconds_ago=seconds_ago)
    assert Worker.objects.alive("gpu").exists() == is_alive
    assert not Worker.objects.alive("default").exists()


def test_a_worker_that_stops_in_good_order_is_gone_at_once(db: None) -> None:
    make_worker()
    workers.leave("gpu@one")
    assert not Worker.objects.alive("gpu").exists()


@pytest.mark.django_db(transaction=True)
def test_the_first_beat_of_a_worker_tells_that_it_has_started_and_what_memory_it_has(project: Project) -> None:
    workers.beat("gpu@one", queue="gpu", host="here", device="", pid=1)
    Worker.objects.update(run=machine.queue_run(project, status=Run.Status.RUNNING), memory=None)
    heartbeat._stopped.set()  # after one beat
    heartbeat._beat("gpu@one", {"queue": "gpu", "host": "here", "device": "", "pid": 1})
    worker = Worker.objects.get()
    assert (worker.run, worker.memory) == (None, pytest.approx(resources.memory(), rel=0.5))


def test_an_upload_that_a_killed_process_left_is_removed_after_a_day(settings: Settings, tmp_path: Path) -> None:
    settings.SPOOL_DIR = tmp_path
    old, new = tmp_path / "old.upload", tmp_path / "new.upload"
    for path, age_s in ((old, settings.LEFTOVERS_AFTER_S + 1), (new, 10)):
        path.write_bytes(b"a")
        os.utime(path, (time.time() - age_s, time.time() - age_s))
    reconciler.remove_leftovers()
    assert list(tmp_path.iterdir()) == [new]


def test_what_was_never_finished_goes_and_what_another_database_may_know_stays(
    settings: Settings, data_dir: Path
) -> None:
    settings.LEFTOVERS_AFTER_S = 0
    draft, *complete = (data_dir / name for name in ("models/.one.draft", "models/two", "runs/three", "snapshots/four"))
    for path in (draft, *complete):
        path.mkdir(parents=True)
    reconciler.sweep()
    assert [path.exists() for path in (draft, *complete)] == [False, True, True, True]


def test_a_draft_that_is_completed_while_the_sweep_looks_keeps_no_other_from_going(
    settings: Settings, data_dir: Path
) -> None:
    settings.LEFTOVERS_AFTER_S = 0
    models = data_dir / "models"
    (models / ".b.draft").mkdir(parents=True)
    for name in (".a.draft", ".c.draft"):  # listed, and gone when it is looked at
        (models / name).symlink_to(models / "gone")
    reconciler.remove_leftovers()
    assert not (models / ".b.draft").exists()
