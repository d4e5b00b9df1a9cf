"""A lost message costs time, a doubled one nothing: the row is the job."""

from __future__ import annotations

import json

import pytest
from celery import current_app
from django.conf import settings

from annotate.models import Member, Project
from tests.factories import make_member, make_project
from tests.faults.processes import Machines, empty_broker, wait_until
from tests.training import machine
from training import doorbell
from training.models import Run, Worker
from training.services import rounds

pytestmark = [pytest.mark.slow, pytest.mark.database, pytest.mark.broker]


def queue_refusable_run(project: Project) -> Run:
    """A run that waits, and whose engine says within a second that it cannot be done."""
    judge = make_member(project)
    machine.write_demonstrations(judge, 2)
    run = rounds.open(project, opened_by=None).runs.get()
    config = run.directory / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"patience": 3}))
    return run


def test_runs_are_claimed_though_the_broker_forgot_them(machines: Machines, teaching: Project) -> None:
    machines.environment = {"ROUNDTABLE_RECONCILE_S": str(settings.RECONCILE_S)}  # as people have it
    other = make_project()
    machine.make_settings(other)
    machine.make_base(other)
    queued = [queue_refusable_run(project) for project in (teaching, other)]
    rung = {run.pk: Run.objects.get(pk=run.pk).rung_at for run in queued}
    empty_broker()
    for queue in ("gpu", "default"):
        machines.worker(queue)
    machines.beat()

    def rung_again() -> bool:
        return all(run.rung_at != rung[run.pk] for run in Run.objects.filter(pk__in=rung))

    workers = Worker.objects.filter(queue="gpu")
    wait_until(workers.exists, within=60)
    wait_until(rung_again, within=40)
    wait_until(lambda: not Run.objects.filter(started_at=None).exists(), within=20)
    wait_until(lambda: not Run.objects.filter(status=Run.Status.RUNNING).exists(), within=30)
    assert {run.error for run in Run.objects.all()} == {"unknown field 'patience'"}


def test_the_same_message_ten_times_runs_once(machines: Machines, teaching: Project, judge: Member) -> None:
    run = queue_refusable_run(teaching)
    for _ in range(10):
        current_app.send_task(doorbell.TASK, args=[run.pk])
    machines.worker("gpu")

    wait_until(lambda: Run.objects.filter(pk=run.pk, status=Run.Status.FAILED).exists(), within=60)
    wait_until(lambda: _messages() == 0, within=30)
    run.refresh_from_db()
    assert (run.attempt, run.fence) == (1, 1)
    assert [path.name for path in (run.directory / "attempts").iterdir()] == ["1"]


def _messages() -> int:
    with current_app.connection_for_read() as connection:
        return connection.default_channel._size("gpu")
