"""Checks of what lies on disk: room, folders that can be written, the key, things that were set aside."""

from __future__ import annotations

import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.utils.translation import gettext as _

from training.services.office.doctor.findings import LARGEST_SKEW_S, Check, Finding, Level
from training.services.run_files import directories

FOLDERS = ("runs", "models", "snapshots", "logs")  # below DATA_DIR, those that exist


def room() -> Iterator[Finding]:
    free = shutil.disk_usage(settings.DATA_DIR).free
    if free < settings.LOW_DISK_BYTES:
        fault = _("Only %(free).1f GB is free in %(path)s. The next checkpoint may not fit.")
        facts = {"free": free / 1e9, "path": settings.DATA_DIR}
        yield Finding("disk", fault % facts, _("Use “manage.py prune” to free space, or use a larger disk."))


def writable() -> Iterator[Finding]:
    base = Path(settings.DATA_DIR)
    for folder in (base, *(base / name for name in FOLDERS if (base / name).exists())):
        if error := _why_not_writable(folder):
            fault = _("%(path)s is not writable: %(error)s.") % {"path": folder, "error": error}
            yield Finding(
                "folders", fault, _("Make it writable for the user that runs Roundtable, or mount it read-write.")
            )


def file_clock() -> Iterator[Finding]:
    """Stalls are seen by the age of files, and those may lie on another machine's disk."""
    with tempfile.NamedTemporaryFile(dir=settings.DATA_DIR, prefix=".doctor-") as probe:
        skew = abs(Path(probe.name).stat().st_mtime - time.time())
    if skew > LARGEST_SKEW_S:
        fault = _("File times in DATA_DIR differ from this host's clock by %(seconds)d s.")
        remedy = _("Synchronise the file server and this host with a time server.")
        yield Finding("clock", fault % {"seconds": round(skew)}, remedy)


def secret_key() -> Iterator[Finding]:
    path = Path(settings.DATA_DIR) / "secret_key"
    if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        fault = _("Other users of this machine can read %(path)s and use it to sign in as anyone.") % {"path": path}
        yield Finding(
            "secret key",
            fault,
            _("Run “chmod 600” on it. If someone may have read it, delete it as well; a new one is created."),
        )


def private() -> Iterator[Finding]:
    path = Path(settings.DATA_DIR)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        fault = _("Other users of this machine can read %(path)s.") % {"path": path}
        yield Finding("folders", fault, _("Run “chmod 700” on it, or use a dedicated folder as DATA_DIR."))


def static_files() -> Iterator[Finding]:
    if not (Path(settings.STATIC_ROOT) / "staticfiles.json").exists():
        fault = _("Static files have not been collected, so pages have no styles.")
        yield Finding("static files", fault, _("Run “manage.py collectstatic”. “make run” does this automatically."))


def damaged_checkpoints() -> Iterator[Finding]:
    runs = sorted((Path(settings.DATA_DIR) / "runs").glob("*"))
    for path in (path for run in runs for path in directories.find(run, directories.DAMAGED_CHECKPOINTS)):
        fault = _("The checkpoint %(path)s was damaged and has been set aside. Its run resumed from an older one.")
        remedy = _("“manage.py prune” removes it. If there is more than one, check the disk for errors.")
        yield Finding("checkpoints", fault % {"path": path.relative_to(settings.DATA_DIR)}, remedy, Level.NOTE)


def _why_not_writable(folder: Path) -> str:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return error.strerror or str(error)


CHECKS: tuple[Check, ...] = (room, writable, file_clock, secret_key, private, static_files, damaged_checkpoints)
