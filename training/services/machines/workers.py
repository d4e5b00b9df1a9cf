"""Workers: the row of each, written by its own heartbeat. Nobody asks the broker who is alive."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models.functions import Now

from training.models import Run, Worker

REPLACED_AFTER = timedelta(minutes=2)  # of silence: then another worker may take over what it held
FORGOTTEN_AFTER = timedelta(days=1)


def arrive(name: str, **facts: Any) -> None:
    """Store that the worker `name` has started; what one of that name worked on before, it does no longer."""
    Worker.objects.filter(name=name).update(started_at=Now(), run=None)
    beat(name, **facts)


def beat(
    name: str,
    *,
    queue: str,
    host: str,
    device: str,
    pid: int,
    memory: int | None = None,
    processes: int | None = None,
) -> None:
    """Store that the worker `name` is alive."""
    facts = {
        "queue": queue,
        "host": host,
        "device": device,
        "pid": pid,
        "memory": memory,
        "processes": processes,
        "heartbeat_at": Now(),
    }
    Worker.objects.update_or_create(name=name, defaults=facts, create_defaults=facts | {"started_at": Now()})


def leave(name: str) -> None:
    """The worker `name` has stopped in good order."""
    Worker.objects.filter(name=name).delete()


def occupy(name: str, run: Run | None) -> None:
    """Store what the worker `name` works on."""
    Worker.objects.filter(name=name).update(run=run)


def forget_silent() -> None:
    """Remove the rows of workers that will not come back."""
    Worker.objects.filter(heartbeat_at__lt=Now() - FORGOTTEN_AFTER).delete()
