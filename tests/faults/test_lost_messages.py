"""A lost message costs time, a doubled one nothing: the row is the job."""

from __future__ import annotations

import json

import pytest
from celery import current_app

from annotate.models import Member, Project
from tests.factories import make_member
from tests.faults.invariants import Invariants
from tests.faults.processes import Processes, empty_broker, product_times, wait_until
from tests.faults.toy_project import make_toy_project
from tests.training import machine
from training import doorbell
from training.models import Round, Run, Worker
from training.services.running import rounds

pytestmark = [pytest.mark.slow, pytest.mark.database, pytest.mark.broker]


def queue_refusable_run(project: Project) -> Run:
    """A run that waits, and whose engine says within a second that it cannot be done."""
    judge = make_member(project)
    machine.write_demonstrations(judge, 2)
    run = rounds.open(project, opened_by=None).runs.get()
    config = run.directory / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"patience": 3}))
    return run


def test_five_runs_are_done_within_a_minute_though_the_broker_forgot_them(
    processes: Processes, project: Project, invariants: Invariants
) -> None:
    processes.environment = product_times()
    for one in (project, *(make_toy_project() for _ in range(4))):
        rounds.open(one, opened_by=None)
    empty_broker()
    for queue in ("gpu", "default"):
        processes.worker(queue)
    processes.beat()

    wait_until(Worker.objects.filter(queue="gpu").exists, within=60)
    wait_until(lambda: not Round.objects.active().exists(), within=60)
    processes.stop_all()
    assert set(Run.objects.values_list("status", "attempt")) == {(Run.Status.SUCCEEDED, 1)}
    assert Run.objects.count() == 5
    invariants.check(says="succeeded")


def test_the_same_message_ten_times_runs_once(processes: Processes, teaching: Project, judge: Member) -> None:
    run = queue_refusable_run(teaching)
    invariants = Invariants(teaching)
    for _ in range(10):
        current_app.send_task(doorbell.TASK, args=[run.pk])
    processes.worker("gpu")

    wait_until(lambda: Run.objects.filter(pk=run.pk, status=Run.Status.FAILED).exists(), within=60)
    wait_until(lambda: _messages() == 0, within=30)
    run.refresh_from_db()
    assert (run.attempt, run.fence) == (1, 1)
    assert [path.name for path in (run.directory / "attempts").iterdir()] == ["1"]
    processes.stop_all()
    invariants.check(says="unknown field 'patience'")


def _messages() -> int:
    with current_app.connection_for_read() as connection:
        return connection.default_channel._size("gpu")
