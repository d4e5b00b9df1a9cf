"""The Celery tasks: shells around services, so that the same work can be done from a command or a test."""

# Celery has no types.
# mypy: disallow-untyped-decorators=False

from __future__ import annotations

from celery import Task, shared_task

from training import adopter, examiner, heartbeat, runner
from training.services.demo import simulations
from training.services.registry import downloads
from training.services.running import reconciler, retries

__all__ = [
    "adopt",
    "examine",
    "heartbeat",
    "pack",
    "read_files",
    "reconcile",
    "simulate",
    "supervise",
]  # heartbeat connects itself to worker signals


@shared_task(name="training.supervise.v1", bind=True)
def supervise(self: Task, run_pk: int) -> None:
    """Claim the run and see its engine through; see runner.supervise."""
    runner.supervise(run_pk, owner=self.request.hostname)


@shared_task(name="training.pack.v1")
def pack(download_pk: int) -> None:
    """Pack a model into one file; see services/registry/downloads.py."""
    downloads.pack(download_pk)


@shared_task(name="training.simulate.v1")
def simulate(simulation_pk: int) -> None:
    """Play the people of a demo project; see services/demo/simulations.py."""
    simulations.run(simulation_pk)


@shared_task(name="training.reconcile.v1")
def reconcile() -> None:
    """Mend what was left undone; see services/running/reconciler.py."""
    reconciler.sweep()


@shared_task(name="training.read_files.v1")
def read_files(run_pk: int) -> None:
    """Read what a retry would go on from; see retries.read_files."""
    retries.read_files(run_pk)


@shared_task(name="training.examine.v1")
def examine(examination_pk: int) -> None:
    """Examine what a round would train on; see examiner.examine."""
    examiner.examine(examination_pk)


@shared_task(name="training.adopt.v1", bind=True)
def adopt(self: Task, adoption_pk: int) -> None:
    """Examine a folder of BASE_MODELS_DIR; see adopter.examine."""
    adopter.examine(adoption_pk, worker=self.request.hostname)
