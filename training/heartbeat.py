"""A worker's heartbeat: a thread of its main process writes the Worker row every RUN_HEARTBEAT_S, busy or not.

When the worker is to stop, the main process passes that on to the processes that supervise an engine.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
from collections.abc import Callable
from typing import Any

from celery.signals import worker_ready, worker_shutdown, worker_shutting_down
from django.conf import settings
from django.db import Error as DatabaseFailure
from django.db import connection

from training import engine_process
from training.services.machines import resources, workers

_stopped = threading.Event()
logger = logging.getLogger(__name__)


def start(sender: Any, **kwargs: Any) -> None:
    """Begin to beat for the worker `sender`."""
    queues = set(sender.app.amqp.queues.consume_from)
    row = {
        "queue": "gpu" if "gpu" in queues else "default",
        "host": platform.node(),
        "device": resources.device(),
        "processes": resources.processes(),
        "pid": os.getpid(),
    }
    _stopped.clear()
    threading.Thread(target=_beat, args=[sender.hostname, row], name="heartbeat", daemon=True).start()


def drain(**kwargs: Any) -> None:
    """The worker is to stop: engines are asked to write a checkpoint and leave."""
    engine_process.draining.set()


def stop(sender: Any, **kwargs: Any) -> None:
    """The worker has stopped in good order: nobody has to wait for its silence."""
    _stopped.set()
    workers.leave(sender.hostname)


def _beat(name: str, row: dict[str, Any]) -> None:
    write: Callable[..., None] = workers.arrive
    while True:
        try:
            write(name, memory=resources.memory(), **row)
            write = workers.beat
        except DatabaseFailure as error:
            logger.warning("no heartbeat of %s: %s", name, error)
        finally:
            connection.close()  # between two beats a fork of this process must find no open connection
        if _stopped.wait(settings.RUN_HEARTBEAT_S):
            return


worker_ready.connect(start)
worker_shutting_down.connect(drain)
worker_shutdown.connect(stop)
