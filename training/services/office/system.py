"""The figures of the system page: who works, what waits and for how long, what fills the disk, which versions run."""

from __future__ import annotations

import platform
import shutil
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from django.conf import settings
from django.db import connection
from django.db.models import Count, Min, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.models import Kind, WorkItem
from training.models import SILENT_AFTER, Run, TrainingSettings, Worker
from training.services.run_files.directories import files_below

PACKAGES = ("Django", "celery", "torch", "transformers", "safetensors", "granian")


class Waiting(NamedTuple):
    """A queue: how many wait, and since when the first of them does."""

    name: str
    number: int
    since: object


class Part(NamedTuple):
    """What one kind of our files takes on the disk, in bytes."""

    name: str
    used: int


class Disk(NamedTuple):
    """The disk of DATA_DIR, in bytes."""

    parts: list[Part]
    free: int
    total: int


class LiveWorker(NamedTuple):
    worker: Worker
    is_alive: bool


def working() -> list[LiveWorker]:
    """Every worker that was heard of within a day, those alive marked."""
    alive_after = timezone.now() - SILENT_AFTER
    known = Worker.objects.select_related("run__project").order_by("queue", "name")
    return [LiveWorker(worker, worker.heartbeat_at > alive_after) for worker in known]


def waiting() -> list[Waiting]:
    """The queues of people and of machines."""
    runs = Run.objects.queued().aggregate(number=Count("pk"), since=Min("created_at"))
    wanted = WorkItem.objects.exclude(project__training_settings__purpose=TrainingSettings.Purpose.EXAMPLE)
    items = wanted.filter(status=WorkItem.Status.OPEN).aggregate(
        **{f"{kind}_number": Count("pk", filter=Q(kind=kind)) for kind in Kind.values},
        **{f"{kind}_since": Min("created_at", filter=Q(kind=kind)) for kind in Kind.values},
    )
    return [
        Waiting(_("Runs waiting for a gpu-worker"), runs["number"], runs["since"]),
        Waiting(_("Answers to write"), items["demonstration_number"], items["demonstration_since"]),
        Waiting(_("Sets of answers to rank"), items["ranking_number"], items["ranking_since"]),
    ]


def disk() -> Disk:
    """How full the disk of DATA_DIR is, and what on it is ours."""
    base = Path(settings.DATA_DIR)
    # Models first: a run's directory has the same weights under a second name, which take no space of their own.
    folders = {"models": _("Models"), "snapshots": _("Snapshots of labels"), "runs": _("Runs")}
    sizes = _sizes(*(base / folder for folder in folders))
    parts = [Part(name, size) for name, size in zip(folders.values(), sizes, strict=True)]
    if connection.vendor == "sqlite":
        files = Path(connection.settings_dict["NAME"]).parent.glob(f"{Path(connection.settings_dict['NAME']).name}*")
        parts.append(Part(_("Database"), sum(path.stat().st_size for path in files)))
    usage = shutil.disk_usage(base)
    return Disk(parts, usage.free, usage.total)


def _sizes(*folders: Path) -> list[int]:
    """The bytes in each folder; a file with several names counts where it is seen first."""
    seen: set[tuple[int, int]] = set()
    sizes = []
    for folder in folders:
        new = {(about.st_dev, about.st_ino): about.st_size for about in files_below(folder)}
        sizes.append(sum(size for key, size in new.items() if key not in seen))
        seen |= new.keys()
    return sizes


def versions() -> list[tuple[str, str]]:
    """(name, version) of what runs here; "" for what is not installed on this host."""
    database = ".".join(map(str, connection.get_database_version()))
    known = [("Python", platform.python_version()), (connection.display_name, database)]
    return known + [(name, _version(name)) for name in PACKAGES]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
