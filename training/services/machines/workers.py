"""Workers: who is alive, as told by their heartbeats; nobody asks the broker."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from django.db.models.functions import Now

from training.models import SILENT_AFTER_S, Run, Worker

HEARTBEAT_S = 10.0
FORGOTTEN_AFTER = timedelta(days=1)


def arrive(name: str, **told: Any) -> None:
    """Write down that the worker `name` has started; what one of that name did before, it does no longer."""
    Worker.objects.filter(name=name).update(started_at=Now(), run=None)
    beat(name, **told)


def beat(name: str, *, queue: str, host: str, device: str, pid: int, memory: int | None = None) -> None:
    """Write down that the worker `name` is alive, as `arrive` has told before."""
    told = {"queue": queue, "host": host, "device": device, "pid": pid, "memory": memory}
    now = told | {"heartbeat_at": Now()}
    Worker.objects.update_or_create(name=name, defaults=now, create_defaults=now | {"started_at": Now()})


def leave(name: str) -> None:
    """The worker `name` has stopped in good order."""
    Worker.objects.filter(name=name).delete()


def occupy(name: str, run: Run | None) -> None:
    """Write down what the worker `name` works on."""
    Worker.objects.filter(name=name).update(run=run)


def alive(queue: str) -> QuerySet[Worker]:
    """The workers that serve `queue` now."""
    return Worker.objects.filter(queue=queue, heartbeat_at__gt=Now() - timedelta(seconds=SILENT_AFTER_S))


def idle(queue: str) -> QuerySet[Worker]:
    """The workers that serve `queue` and have nothing to do."""
    return alive(queue).exclude(run__status=Run.Status.RUNNING)


def forget_silent() -> None:
    """Remove the rows of workers that will not come back."""
    Worker.objects.filter(heartbeat_at__lt=Now() - FORGOTTEN_AFTER).delete()
