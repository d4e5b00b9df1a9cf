"""Runs: queueing, claiming, keeping alive and ending them. What a worker writes, it writes under its fence.

All times are the database's: the clocks of the hosts may differ.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q
from django.db.models.expressions import CombinedExpression
from django.db.models.functions import Coalesce, Now
from django.utils.translation import gettext as _

from annotate.models import Project, User
from annotate.services.text import repair_json
from training import doorbell
from training.models import LostRace, Round, Run, Snapshot, Worker, note
from training.rlhf import endings, exits
from training.rlhf.config import RunConfig
from training.rlhf.run.manifest import OnBytes
from training.services.machines import resources
from training.services.run_files import directories
from training.services.run_files.directories import Record
from training.services.run_files.reader import RunFiles
from training.services.running import notices, publishing

MOST_FRUITLESS_ATTEMPTS = 3
HEARTBEATS_IN_DOUBT = 3  # that a worker may still miss when its lease is over
LONGEST_ERROR = 8_000  # characters
END_UNSEEN = -1  # the exit code of an engine whose end nobody saw

Status = Run.Status


class Lease(NamedTuple):
    """What a worker learns when it renews the lease of its run."""

    is_held: bool  # the run is still this worker's
    cancel_requested: bool


class Ending(NamedTuple):
    """How an engine process ended. `exit_code` is negative for a signal."""

    exit_code: int
    error: str
    facts: Mapping[str, Any] = {}  # the reason as data, where it is known: see training/rlhf/endings.py


def queue(
    project: Project,
    *,
    config: RunConfig,
    data: Mapping[str, Path],
    records: Mapping[str, Iterable[Record]],
    round: Round | None = None,
    snapshot: Snapshot | None = None,
) -> Run:
    """A new run with its directory; the doorbell rings after commit."""
    run = Run(project=project, stage=config.stage, round=round, snapshot=snapshot)
    try:
        directories.write(run.directory, config, data=data, records=records)
    except OSError:  # on a full disk every sweep would leave another one
        shutil.rmtree(run.directory, ignore_errors=True)
        raise
    with transaction.atomic():
        run.save()
        note(run, Run.Status.QUEUED)
        doorbell.ring(run)
    return run


def claim(run_pk: int, *, owner: str) -> Run | None:
    """Take run `run_pk`, or one that stands before it, for `owner` under a new fence; None when there is none.

    A message that comes twice, late or for a run that is over finds nothing. Runs that want more processes than this
    machine has room for are left to other workers.
    """
    asked = Run.objects.filter(pk=run_pk).first()
    for run in _fitting(Run.objects.queued().up_to(asked)) if asked else ():
        with contextlib.suppress(LostRace):
            run.move_to(
                Status.RUNNING,
                under=run.fence,
                fence=F("fence") + 1,
                attempt=F("attempt") + 1,
                owner=owner,
                lease_until=_lease_end(),
                heartbeat_at=Now(),
                doubted_at=None,
                started_at=Coalesce("started_at", Now()),
                exit_code=None,  # the error stays: it says why there is another attempt
            )
            return run
    return None


def heartbeat(run: Run, *, step: int, total: int) -> Lease:
    """Renew the lease and store how far the engine is."""
    held = Run.objects.running().filter(pk=run.pk, fence=run.fence)
    if not held.update(lease_until=_lease_end(), heartbeat_at=Now(), doubted_at=None, step=step, total=total):
        return Lease(is_held=False, cancel_requested=False)
    return Lease(is_held=True, cancel_requested=held.filter(cancel_requested=True).exists())


def finish(run: Run, ending: Ending) -> None:
    """Store what follows from how the engine ended. Raises LostRace when `run` is no longer this worker's.

    It may be called again where the database was lost on the way: what had been committed stands.
    """
    if ending.exit_code == exits.FenceLost.code or not Run.objects.filter(pk=run.pk, fence=run.fence).exists():
        raise LostRace(f"run {run.pk} belongs to another attempt")
    run.refresh_from_db(fields=["status", "cancel_requested", "fruitless_attempts"])
    if run.status != Status.RUNNING:
        return
    if run.cancel_requested:
        _end(run, Status.CANCELLED, ending)
    elif ending.exit_code == exits.DONE:
        _succeed(run)
    elif ending.exit_code == exits.NeedsPerson.code:
        _hold(run, ending)
    elif ending.exit_code in (exits.InvalidInput.code, exits.Diverged.code):
        _end(run, Status.FAILED, ending)
    else:
        _interrupt(run, ending, attempt=run.fence)


def reclaim() -> int:
    """Queue the runs again whose worker is silent. Returns how many there were.

    A lease that is over is doubted first, and the run reclaimed at a later sweep: where nobody could reach the
    database for a while, all leases are over at once, and the workers get the time to renew them. No such time is
    given to a worker that has restarted since its last heartbeat for the run: it does not know of it any more.
    """
    running = Run.objects.running()
    long_ago = Now() - timedelta(seconds=HEARTBEATS_IN_DOUBT * settings.RUN_HEARTBEAT_S)
    is_over, is_silent = Q(lease_until__lt=Now()), Q(heartbeat_at__lt=long_ago)
    running.filter(is_over, doubted_at=None).update(doubted_at=Now())
    doubted = running.filter(is_over, doubted_at__lt=long_ago)
    restarted = Worker.objects.filter(name=OuterRef("owner"), started_at__gt=OuterRef("heartbeat_at"))
    forgotten = running.filter(is_silent, Exists(restarted))
    reclaimed = [_reclaim(run, is_over) for run in doubted] + [_reclaim(run, is_silent) for run in forgotten]
    return sum(reclaimed)


@transaction.atomic
def _reclaim(run: Run, condition: Q) -> bool:
    """Raise the fence of a run and queue it again; False where `condition` does not hold any more."""
    silent = Run.objects.running().filter(condition, pk=run.pk, fence=run.fence)
    if not silent.update(fence=F("fence") + 1):
        return False
    attempt = run.fence
    run.refresh_from_db()
    error = _("Worker %(name)s stopped responding.") % {"name": run.owner}
    # What the engine wrote just before its worker went silent says more than the silence.
    facts = endings.read(directories.attempt(run.directory, attempt)) or {"kind": "silent"}
    _interrupt(run, Ending(END_UNSEEN, error, facts), attempt=attempt)
    return True


def ring_next() -> None:
    """A worker is free: ring for the run that stands first."""
    if run := next(_fitting(Run.objects.queued()), None):
        doorbell.ring(run)


def _fitting(waiting: Iterable[Run]) -> Iterator[Run]:
    return (run for run in waiting if RunFiles(run).processes <= resources.processes())


def cancel(run: Run, *, actor: User | None = None) -> None:
    """End `run`: at once while it waits; a running engine is stopped at its supervisor's next heartbeat."""
    while not Run.objects.running().filter(pk=run.pk).update(cancel_requested=True):
        run.refresh_from_db()
        if run.status in Run.FINISHED:
            return
        with contextlib.suppress(LostRace):  # a worker has claimed it since it was read
            run.move_to(Status.CANCELLED, actor=actor, finished_at=Now())


def release(run: Run) -> None:
    """Let a held run go on: a person has mended what kept it."""
    run.move_to(Status.QUEUED, fruitless_attempts=0)
    doorbell.ring(run)


def release_after_disk_shortage() -> None:
    """Let held runs go on once the disk has room again; one that is held over and over waits for a person."""
    if resources.disk_shortage():
        return
    short_of_disk = Run.objects.held().filter(exit_code=exits.NeedsPerson.code)
    for run in short_of_disk.filter(fruitless_attempts__lt=MOST_FRUITLESS_ATTEMPTS):
        with contextlib.suppress(LostRace):
            run.move_to(Status.QUEUED)
            doorbell.ring(run)


def _succeed(run: Run) -> None:
    """Publish what the engine wrote; a cancellation that comes meanwhile wins."""
    try:
        publishing.publish(run, counted=_lease_keeper(run))
    except publishing.CancelRequested:
        run.refresh_from_db()
        _end(run, Status.CANCELLED, Ending(exits.DONE, ""))
    except publishing.DamagedOutput as damage:
        _interrupt(run, Ending(exits.DONE, str(damage), {"kind": "damaged_output"}), attempt=run.fence)
    except OSError as error:
        if not endings.is_disk_full(error):
            raise
        run.refresh_from_db()
        _hold(run, Ending(exits.NeedsPerson.code, resources.disk_full(error), {"kind": "disk"}))


def _lease_keeper(run: Run) -> OnBytes:
    """Renews the lease now and then while the bytes of a large model are read."""
    renewed_at = time.monotonic()

    def counted(number: int) -> None:
        nonlocal renewed_at
        if time.monotonic() - renewed_at >= settings.RUN_HEARTBEAT_S:
            heartbeat(run, step=run.step, total=run.total)
            renewed_at = time.monotonic()

    return counted


def _hold(run: Run, ending: Ending) -> None:
    """Wait for room on the disk, or for a person."""
    fruitless = 0 if directories.has_new_checkpoint(run.directory, run.fence) else run.fruitless_attempts + 1
    with transaction.atomic():
        _end(run, Status.HELD, ending, fruitless_attempts=fruitless)
        notices.held(run)


def _end(run: Run, status: Status, ending: Ending, **changes: Any) -> None:
    run.move_to(
        status,
        under=run.fence,
        exit_code=ending.exit_code,
        error=ending.error[-LONGEST_ERROR:],
        ending=repair_json(dict(ending.facts)),
        step=run.step,
        total=run.total,
        lease_until=None,
        finished_at=Now() if status in Run.FINISHED else None,
        **changes,
    )
    directories.discard_drafts(run.directory)


def _interrupt(run: Run, ending: Ending, *, attempt: int) -> None:
    """Queue a run again whose attempt ended early; after too many in a row without a new checkpoint it has failed."""
    if run.cancel_requested:
        _end(run, Status.CANCELLED, ending)
        return
    fruitless = run.fruitless_attempts
    if directories.has_new_checkpoint(run.directory, attempt):
        fruitless = 0
    elif ending.exit_code != exits.Interrupted.code:  # an engine that was asked to stop has not failed
        fruitless += 1
    if fruitless >= MOST_FRUITLESS_ATTEMPTS:
        tail = directories.log_tail(run.directory, attempt)
        _end(run, Status.FAILED, ending._replace(error=f"{ending.error}\n\n{tail}".strip()))
        return
    with transaction.atomic():
        run.move_to(
            Status.INTERRUPTED,
            under=run.fence,
            step=run.step,
            total=run.total,
            exit_code=ending.exit_code,
            error=ending.error[-LONGEST_ERROR:],
            ending=repair_json(dict(ending.facts)),
            fruitless_attempts=fruitless,
            lease_until=None,
        )
        run.move_to(Status.QUEUED, under=run.fence)
        doorbell.ring(run)


def _lease_end() -> CombinedExpression:
    return Now() + timedelta(seconds=settings.RUN_LEASE_S)
