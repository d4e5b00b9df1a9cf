"""The doorbell: messages to the workers that something waits for them.

A message may fail, be lost or come twice: the row is the job.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from celery import current_app
from django.db import transaction
from django.db.models.functions import Now

from training.models import Download, Run, Simulation

TIMEOUT_S = 1
UNHEARD_AFTER = timedelta(seconds=15)  # a message may be lost: what still waits then is rung for again
TASK = "training.supervise.v1"
PACKING_TASK = "training.pack.v1"
SIMULATION_TASK = "training.simulate.v1"

logger = logging.getLogger(__name__)


def ring(run: Run) -> None:
    """Ring for `run` once the transaction at hand is committed."""
    transaction.on_commit(lambda: _send(run.pk))


def ring_for_download(download: Download) -> None:
    """Ring for a packer of `download` once the transaction at hand is committed."""
    transaction.on_commit(lambda: ask(PACKING_TASK, download.pk))


def ring_for_simulation(simulation: Simulation) -> None:
    """Ring for a worker that plays the people of `simulation` once the transaction at hand is committed."""
    transaction.on_commit(lambda: ask(SIMULATION_TASK, simulation.pk))


def ask(task: str, pk: int) -> bool:
    """Ask a worker for `task` on the row `pk`. Returns whether the message is on its way; it never raises."""
    limits = {"socket_connect_timeout": TIMEOUT_S, "socket_timeout": TIMEOUT_S}
    options = {**current_app.conf.broker_transport_options, **limits}
    try:
        with current_app.connection_for_write(connect_timeout=TIMEOUT_S, transport_options=options) as connection:
            current_app.send_task(task, args=[pk], connection=connection, retry=False)
    except Exception:  # the reconciler asks again; nothing that a person does may fail because of the broker
        logger.warning("could not send the message for %s %s", task, pk, exc_info=True)
        return False
    return True


def _send(run_pk: int) -> None:
    if ask(TASK, run_pk):
        Run.objects.filter(pk=run_pk).update(rung_at=Now())
