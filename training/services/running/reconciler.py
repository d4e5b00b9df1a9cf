"""The reconciler: every 20 s it mends what a lost message, a dead worker or a crash between two steps left undone.

Each of its chores is harmless when there is nothing to do, and when two reconcilers run at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from django.conf import settings
from django.db.models import Q
from django.db.models.functions import Now

from annotate.models import Project
from annotate.services import work
from training import doorbell
from training.models import ModelVersion, Round, Run, Stage
from training.services.machines import workers
from training.services.registry import adoptions, base_models, downloads
from training.services.running import orphan_directories, rounds, runs

ASSIGNMENTS_A_SWEEP = 200
NOBODY_FREE_S = 600.0

logger = logging.getLogger(__name__)


def sweep() -> None:
    """Do every chore; one that fails does not keep the others from being done."""
    for chore in (
        runs.reclaim,
        runs.release_where_there_is_room,
        advance_rounds,
        adoptions.reclaim,
        adoptions.ask_for_changed,
        adoptions.ring_again,
        make_base_models,
        ring_again,
        expire_assignments,
        downloads.ring_again,
        downloads.delete_old,
        workers.forget_silent,
        orphan_directories.remove,
    ):
        _attempt(chore)


def advance_rounds() -> None:
    """Move on every round whose last stage ended without anybody noticing."""
    for round in Round.objects.active():
        _attempt(rounds.advance, round)


def make_base_models() -> None:
    """Start the way to a base model where nothing has been tried yet; after a failure a person tries again."""
    projects = Project.objects.exclude(training_settings=None)
    projects = projects.exclude(model_versions__kind=ModelVersion.Kind.BASE)
    for project in projects.exclude(runs__stage=Stage.PRETRAINING):
        _attempt(_make_base_model, project)


def _make_base_model(project: Project) -> None:
    # A folder that is being examined, or was refused, is told about on the pages; the next sweep looks again.
    with suppress(base_models.NotAdopted, base_models.UnknownFolder):
        base_models.register(project)


def ring_again() -> None:
    """Ring for the runs that wait, unless that happened a moment ago.

    Where every worker is busy, the one that gets free rings for the next run itself: rings that pile up meanwhile
    would only keep it from its work. Still, no run depends on a heartbeat for ever.
    """
    patience = settings.RECONCILE_S * 0.75 if workers.idle("gpu").exists() else NOBODY_FREE_S
    waiting = Run.objects.filter(status=Run.Status.QUEUED)
    unheard = Q(rung_at=None) | Q(rung_at__lt=Now() - timedelta(seconds=patience))
    for run in waiting.filter(unheard).order_by("pk"):
        doorbell.ring(run)


def expire_assignments() -> None:
    """Give back the seats of people who went away."""
    work.expire_leases(limit=ASSIGNMENTS_A_SWEEP)


def _attempt(chore: Callable[..., object], *subjects: object) -> None:
    try:
        chore(*subjects)
    except Exception:
        logger.exception("%s failed for %s", chore.__name__, subjects or "all")
