"""Claims, leases, fences and what the end of an engine means for its run."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from annotate.models import Project
from tests.factories import make_project
from tests.training import engine_files, machine
from training.models import IllegalMove, LostRace, ModelVersion, Run, Worker
from training.rlhf import exits
from training.services.machines import workers
from training.services.run_files import directories
from training.services.running import runs
from training.services.running.runs import Ending

pytestmark = [pytest.mark.django_db, pytest.mark.database]
Status = Run.Status

CRASH = Ending(exit_code=-11, error="The engine was killed by SIGSEGV.")


@pytest.fixture
def run(project: Project, data_dir: Path) -> Run:
    """A run in the hands of a worker."""
    claimed = runs.claim(machine.queue_run(project, total=10).pk, owner="gpu@one")
    assert claimed is not None
    return claimed


def test_a_claim_raises_the_fence_and_lends_the_run_for_a_while(run: Run) -> None:
    assert (run.status, run.fence, run.attempt, run.owner) == (Status.RUNNING, 1, 1, "gpu@one")
    left = run.lease_until - timezone.now()
    assert timedelta(seconds=100) < left <= timedelta(seconds=121)


def test_a_second_message_for_the_same_run_finds_nothing(run: Run) -> None:
    assert runs.claim(run.pk, owner="gpu@two") is None


def test_the_run_that_waits_longest_is_taken_first_whichever_message_came(project: Project) -> None:
    first, second = machine.queue_run(project), machine.queue_run(make_project())
    assert runs.claim(second.pk, owner="gpu@one") == first
    assert runs.claim(second.pk, owner="gpu@one") == second


def test_a_message_for_an_early_run_does_not_take_a_later_one(run: Run) -> None:
    machine.queue_run(make_project())
    assert runs.claim(run.pk, owner="gpu@two") is None


def test_a_worker_whose_copy_of_the_row_is_old_takes_nothing(project: Project) -> None:
    run = machine.queue_run(project)
    old = Run.objects.get(pk=run.pk)
    runs.claim(run.pk, owner="gpu@one")
    with pytest.raises(LostRace):
        old.move_to(Status.RUNNING, under=old.fence)


def test_a_heartbeat_renews_the_lease_and_tells_of_a_cancellation(run: Run) -> None:
    machine.let_lease_end(run)
    assert runs.heartbeat(run, step=3, total=10) == (True, False)
    assert runs.reclaim() == 0
    run.refresh_from_db()
    assert run.step == 3
    runs.cancel(run)
    assert runs.heartbeat(run, step=4, total=10) == (True, True)


def test_a_lease_that_is_over_is_doubted_before_the_run_is_taken_away(run: Run) -> None:
    """After an outage of the database all leases are over; whoever still works may say so."""
    Run.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert runs.reclaim() == 0
    assert runs.reclaim() == 0
    assert runs.heartbeat(run, step=3, total=10).is_held
    assert Run.objects.get(pk=run.pk).doubted_at is None
    machine.let_lease_end(run)
    assert runs.reclaim() == 1


def test_a_silent_worker_loses_its_run_and_its_late_writes_change_nothing(run: Run) -> None:
    machine.let_lease_end(run)
    assert runs.reclaim() == 1
    assert runs.heartbeat(run, step=9, total=10) == (False, False)
    with pytest.raises(LostRace):
        runs.finish(run, CRASH)
    stored = Run.objects.get(pk=run.pk)
    assert (stored.status, stored.step, stored.error) == (Status.QUEUED, 0, "Worker gpu@one stopped responding.")
    again = runs.claim(run.pk, owner="gpu@two")
    assert again is not None
    assert (again.fence, again.attempt) == (3, 2)


@pytest.mark.parametrize(("silent_s", "taken"), [(20, 0), (40, 1)])
def test_a_run_whose_worker_has_started_anew_does_not_wait_for_its_lease(run: Run, silent_s: int, taken: int) -> None:
    facts = {"queue": "gpu", "host": "here", "device": "", "pid": 1}
    workers.arrive("gpu@one", **facts)
    Run.objects.update(heartbeat_at=Now() - timedelta(seconds=silent_s))
    Worker.objects.update(started_at=Now() - timedelta(seconds=60), run=run)
    assert runs.reclaim() == 0, "it is the same worker as before, and may have lost the database for a while"
    workers.arrive("gpu@one", **facts)
    assert Worker.objects.get().run is None
    assert runs.reclaim() == taken


@pytest.mark.parametrize(
    ("exit_code", "status", "is_over"),
    [
        (exits.Interrupted.code, Status.QUEUED, False),
        (exits.InvalidInput.code, Status.FAILED, True),
        (exits.NeedsPerson.code, Status.HELD, False),
        (exits.Diverged.code, Status.FAILED, True),
        (1, Status.QUEUED, False),
        (-9, Status.QUEUED, False),
    ],
)
def test_the_exit_code_says_what_happens_next(run: Run, exit_code: int, status: str, is_over: bool) -> None:
    runs.finish(run, Ending(exit_code, "one clear sentence"))
    stored = Run.objects.get(pk=run.pk)
    assert (stored.status, stored.exit_code, stored.error) == (status, exit_code, "one clear sentence")
    assert (stored.finished_at is not None) == is_over
    assert stored.lease_until is None


def test_an_engine_that_lost_its_fence_changes_nothing(run: Run) -> None:
    with pytest.raises(LostRace):
        runs.finish(run, Ending(exits.FenceLost.code, ""))
    assert Run.objects.get(pk=run.pk).status == Status.RUNNING


def test_three_attempts_without_a_checkpoint_fail_the_run_with_the_end_of_its_log(run: Run) -> None:
    for _ in range(3):
        attempt = directories.attempt(run.directory, run.fence)
        attempt.mkdir(parents=True)
        (attempt / directories.LOG).write_text("Segmentation fault\n")
        runs.finish(run, CRASH)
        run = runs.claim(run.pk, owner="gpu@one") or run
    run.refresh_from_db()
    assert (run.status, run.attempt) == (Status.FAILED, 3)
    assert run.error == "The engine was killed by SIGSEGV.\n\nSegmentation fault"


def test_a_new_checkpoint_starts_the_count_again(run: Run) -> None:
    for step in (0, 0, 4, 0, 4, 5):  # 0: none; 4 again is no progress
        if step:
            engine_files.write_checkpoint(run, step)
        runs.finish(run, CRASH)
        claimed = runs.claim(run.pk, owner="gpu@one")
        assert claimed is not None
        run = claimed
    assert run.fruitless_attempts == 0


def test_leaving_when_asked_is_no_fruitless_attempt(run: Run) -> None:
    for _ in range(5):
        runs.finish(run, Ending(exits.Interrupted.code, ""))
        claimed = runs.claim(run.pk, owner="gpu@one")
        assert claimed is not None
        run = claimed
    assert run.fruitless_attempts == 0


def test_a_waiting_run_is_cancelled_at_once_and_a_finished_one_stays(project: Project) -> None:
    waiting = machine.queue_run(project)
    runs.cancel(waiting)
    assert Run.objects.get(pk=waiting.pk).status == Status.CANCELLED
    assert runs.claim(waiting.pk, owner="gpu@one") is None
    done = machine.queue_run(make_project(), status=Status.SUCCEEDED)
    runs.cancel(done)
    assert Run.objects.get(pk=done.pk).status == Status.SUCCEEDED


@pytest.mark.parametrize("exit_code", [exits.DONE, exits.Interrupted.code, -15])
def test_however_the_engine_ends_a_cancelled_run_is_cancelled(run: Run, exit_code: int) -> None:
    runs.cancel(run)
    runs.finish(run, Ending(exit_code, ""))
    assert Run.objects.get(pk=run.pk).status == Status.CANCELLED
    assert not ModelVersion.objects.exists()


def test_a_run_that_is_claimed_at_the_moment_of_its_cancellation_is_stopped_like_a_running_one(
    project: Project,
) -> None:
    waiting = machine.queue_run(project)

    def look_and_be_overtaken() -> None:
        Run.refresh_from_db(waiting)
        runs.claim(waiting.pk, owner="gpu@one")

    waiting.refresh_from_db = look_and_be_overtaken  # type: ignore[method-assign]
    runs.cancel(waiting)
    stored = Run.objects.get(pk=waiting.pk)
    assert (stored.status, stored.cancel_requested) == (Status.RUNNING, True)


def test_a_cancelled_run_of_a_dead_worker_does_not_come_back(run: Run) -> None:
    runs.cancel(run)
    machine.let_lease_end(run)
    runs.reclaim()
    assert Run.objects.get(pk=run.pk).status == Status.CANCELLED


def test_a_held_run_goes_on_when_a_person_says_so(run: Run) -> None:
    runs.finish(run, Ending(exits.NeedsPerson.code, "the disk is full"))
    held = Run.objects.get(pk=run.pk)
    assert runs.claim(run.pk, owner="gpu@one") is None
    runs.release(held)
    assert runs.claim(run.pk, owner="gpu@one") == held


def test_the_table_of_moves_is_the_law(run: Run) -> None:
    with pytest.raises(IllegalMove):
        run.move_to(Status.QUEUED)
