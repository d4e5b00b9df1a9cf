"""The reconciler: every 20 s it mends what a lost message, a dead worker or a crash between two steps left undone.

Each of its chores is harmless when there is nothing to do, and when two reconcilers run at once.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.db import connection
from django.db.models import Q
from django.db.models.functions import Now

from annotate.models import Project
from annotate.services import work
from training import doorbell
from training.models import LostRace, ModelVersion, Round, Run, Simulation, Worker
from training.services.machines import workers
from training.services.registry import adoptions, base_models, downloads, pruning
from training.services.run_files.directories import is_leftover
from training.services.running import rounds, runs

ASSIGNMENTS_A_SWEEP = 200
RING_ANYWAY_S = 600.0

logger = logging.getLogger(__name__)


def sweep() -> None:
    """Do every chore; one that fails keeps none of the others from being done."""
    for chore in (
        runs.reclaim,
        runs.release_after_disk_shortage,
        advance_rounds,
        adoptions.reclaim,
        adoptions.ask_for_changed,
        adoptions.ring_again,
        register_base_models,
        ring_again,
        expire_assignments,
        downloads.ring_again,
        ring_for_simulations,
        downloads.delete_old,
        workers.forget_silent,
        remove_leftovers,
        empty_log,
    ):
        _do(chore)


def advance_rounds() -> None:
    """Move on every round whose last stage ended without anybody noticing."""
    for round in Round.objects.active():
        _do(rounds.advance, round)


def register_base_models() -> None:
    """Give every project that trains its base model."""
    projects = Project.objects.exclude(training_settings=None)
    for project in projects.exclude(model_versions__kind=ModelVersion.Kind.BASE):
        _do(_register_base_model, project)


def _register_base_model(project: Project) -> None:
    # Pages say what keeps the folder from being used; the next sweep tries again.
    with suppress(base_models.NotAdopted, base_models.UnknownFolder):
        base_models.register(project)


def ring_again() -> None:
    """Ring for the runs that wait, unless that happened a moment ago.

    Where every worker is busy, the one that gets free rings for the next run itself: rings that pile up meanwhile
    would only keep it from its work. After RING_ANYWAY_S it is rung for all the same.
    """
    patience = settings.RECONCILE_S * 0.75 if Worker.objects.idle("gpu").exists() else RING_ANYWAY_S
    unheard = Q(rung_at=None) | Q(rung_at__lt=Now() - timedelta(seconds=patience))
    for run in Run.objects.queued().filter(unheard):
        doorbell.ring(run)


def ring_for_simulations() -> None:
    """Ring for the simulations that wait, and queue again what a silent worker held."""
    silent = Simulation.objects.filter(status=Simulation.Status.RUNNING, touched_at__lt=Now() - workers.REPLACED_AFTER)
    for simulation in silent:
        with suppress(LostRace):
            simulation.move_to(Simulation.Status.WAITING)
    unheard = Simulation.objects.filter(status=Simulation.Status.WAITING, touched_at__lt=Now() - doorbell.UNHEARD_AFTER)
    for simulation in unheard:
        Simulation.objects.filter(pk=simulation.pk).update(touched_at=Now())
        doorbell.ring_for_simulation(simulation)


def expire_assignments() -> None:
    """Give back the seats of people who went away."""
    work.expire_leases(limit=ASSIGNMENTS_A_SWEEP)


def remove_leftovers() -> None:
    """Remove the drafts and uploads that a killed process left.

    What is complete stays, even if no row knows it: see pruning.unknown_directories.
    """
    for folder in pruning.OWNERS:
        for draft in Path(settings.DATA_DIR, folder).glob(pruning.DRAFTS):
            if is_leftover(draft):
                logger.warning("removing %s, which was never finished", draft)
                shutil.rmtree(draft, ignore_errors=True)
    for upload in settings.SPOOL_DIR.iterdir():
        if is_leftover(upload):
            upload.unlink(missing_ok=True)


def empty_log() -> None:
    """Move what SQLite's write-ahead log holds into the database file, so that a copy of that file is complete.

    SQLite does so when the last connection is closed, but page threads keep theirs. Where somebody reads or writes at
    this moment, the next sweep does the rest.
    """
    if connection.vendor == "sqlite" and not connection.in_atomic_block:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _do(chore: Callable[..., object], *subjects: object) -> None:
    try:
        chore(*subjects)
    except Exception:
        logger.exception("%s failed for %s", chore.__name__, subjects or "all")
