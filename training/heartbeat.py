"""A worker's sign of life: a thread of its main process writes the Worker row every 10 s, busy or not.

The same process hears when the worker is told to stop, and passes it on to whoever supervises an engine.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
from collections.abc import Callable
from typing import Any

from celery.signals import worker_ready, worker_shutdown, worker_shutting_down
from django.db import Error as DatabaseFailure
from django.db import connection

from training import runner
from training.services.machines import devices, workers

_stopped = threading.Event()
logger = logging.getLogger(__name__)


@worker_ready.connect
def start(sender: Any, **kwargs: Any) -> None:
    """Begin to beat for the worker `sender`."""
    queues = set(sender.app.amqp.queues.consume_from)
    row = {
        "queue": "gpu" if "gpu" in queues else "default",
        "host": platform.node(),
        "device": devices.name(),
        "pid": os.getpid(),
    }
    _stopped.clear()
    threading.Thread(target=_beat, args=[sender.hostname, row], name="heartbeat", daemon=True).start()


@worker_shutting_down.connect
def drain(**kwargs: Any) -> None:
    """Told to stop: engines are asked to write a checkpoint and leave."""
    runner.draining.set()


@worker_shutdown.connect
def stop(sender: Any, **kwargs: Any) -> None:
    """Stopped in good order: nobody has to wait for the silence."""
    _stopped.set()
    workers.leave(sender.hostname)


def _beat(name: str, row: dict[str, Any]) -> None:
    tell: Callable[..., None] = workers.arrive
    while True:
        try:
            tell(name, memory=devices.memory(), **row)
            tell = workers.beat
        except DatabaseFailure as error:
            logger.warning("no heartbeat of %s: %s", name, error)
        finally:
            connection.close()  # between two beats a fork of this process must find no open connection
        if _stopped.wait(workers.HEARTBEAT_S):
            return
