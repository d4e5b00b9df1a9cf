"""The adopter lets the engine examine a folder of BASE_MODELS_DIR, as a child process; it never imports torch."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseFailure
from django.db import close_old_connections
from django.utils.translation import gettext as _

from annotate.services.text import repair_text
from training import runner
from training.models import Adoption, LostRace
from training.rlhf import endings, exits
from training.services.machines import disk_space
from training.services.registry import adoption_words, adoptions, model_folders

POLL_S = 0.25
LONGEST_S = 6 * 3600.0  # a large model, read from a slow disk and tested on a CPU
GPU = "CUDA_VISIBLE_DEVICES"  # a card belongs to the run that trains on it: folders are tested on the CPU

logger = logging.getLogger(__name__)


class _Stopped(Exception):
    """The examination was ended from here; the message, if there is one, says why."""


def examine(pk: int, *, worker: str) -> None:
    """Do the adoption `pk`, if it waits and no other is being done; then ring for the next one."""
    if runner.draining.is_set():
        return  # the row stays, and the next worker is rung for it
    adoption = adoptions.take(pk, worker=worker)
    if adoption is None:
        return
    directory = _clean_place(adoption)
    try:
        _see_through(adoption, directory)
    except LostRace as lost:
        logger.warning("%s", lost)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if not runner.draining.is_set():
        adoptions.ring_next()


def _see_through(adoption: Adoption, directory: Path) -> None:
    """Raises LostRace where another worker has it now."""
    try:
        directory.mkdir(parents=True)
        code = _run_engine(adoption, directory)
        _settle(adoption, directory, code)
    except (OSError, ValueError, KeyError) as failure:
        logger.warning("adoption %s failed", adoption.pk, exc_info=True)
        sentence = disk_space.full(failure) if endings.is_disk_full(failure) else str(failure)
        adoptions.fail(adoption, sentence[-endings.LONGEST :])
    except _Stopped as stopped:
        if str(stopped):
            adoptions.fail(adoption, str(stopped))
        else:
            adoptions.give_back(adoption)


def _settle(adoption: Adoption, directory: Path, code: int) -> None:
    """Write down what the engine said when it left with `code`."""
    if code not in (exits.DONE, exits.InvalidInput.code):
        return adoptions.fail(adoption, _words(directory, code))
    report: dict[str, Any] = json.loads((directory / "report.json").read_text("utf-8"))
    if _has_changed(adoption):
        return adoptions.fail(adoption, _("The folder was changed while it was examined. It is examined again."))
    if code == exits.DONE:
        return adoptions.adopt(adoption, report, directory / "model")
    return adoptions.refuse(adoption, report, adoption_words.refusal(report) or _words(directory, code))


def _run_engine(adoption: Adoption, directory: Path) -> int:
    """The exit status of the engine. Raises LostRace, or _Stopped where it was not let to its end."""
    adopter = os.getpid()
    folder = model_folders.path_of(adoption.folder).resolve()
    command = [sys.executable, "-m", "training.rlhf", "adopt", str(folder), str(directory)]
    with (directory / "engine.log").open("ab") as log:
        process = subprocess.Popen(
            command + (["--context", str(adoption.context)] if adoption.context else []),
            cwd=settings.BASE_DIR,
            env={name: os.environ[name] for name in runner.ENGINE_ENVIRONMENT if name in os.environ} | {GPU: ""},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            process_group=0,
            preexec_fn=lambda: runner.bind_to(adopter),
        )
    try:
        _watch(adoption, directory / "alive", process)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return process.returncode


def _watch(adoption: Adoption, alive: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of `process` with signs of life. Raises LostRace or _Stopped."""
    begun = moved = time.monotonic()
    beat_at, touched = begun, 0
    while process.poll() is None:
        time.sleep(POLL_S)
        now = time.monotonic()
        if alive.exists() and alive.stat().st_mtime_ns != touched:
            touched, moved = alive.stat().st_mtime_ns, now
        if runner.draining.is_set():
            raise _Stopped
        if now - moved > settings.RUN_STALL_S:
            raise _Stopped(_("It made no progress for %(minutes)d minutes.") % {"minutes": settings.RUN_STALL_S / 60})
        if now - begun > LONGEST_S:
            raise _Stopped(_("It took more than %(hours)d hours.") % {"hours": LONGEST_S / 3600})
        if now - beat_at > adoptions.HEARTBEAT_S:
            beat_at = now
            _beat(adoption)


def _beat(adoption: Adoption) -> None:
    try:
        is_mine = adoptions.beat(adoption)
    except DatabaseFailure as error:
        logger.warning("no heartbeat for adoption %s: %s", adoption.pk, error)
        close_old_connections()
        return
    if not is_mine:
        raise LostRace(f"adoption {adoption.pk} is no longer held under fence {adoption.fence}")


def _has_changed(adoption: Adoption) -> bool:
    try:
        return model_folders.look(adoption.folder).fingerprint != adoption.fingerprint
    except model_folders.Unreadable:
        return True


def _clean_place(adoption: Adoption) -> Path:
    """A name for a folder of this attempt; those of adopters that were killed are removed: one works at a time."""
    places = Path(settings.DATA_DIR) / "adoptions"
    for left in places.glob("*"):
        shutil.rmtree(left, ignore_errors=True)
    return places / f"{adoption.pk}-{adoption.fence}"


def _words(directory: Path, code: int) -> str:
    """What a person is told of an engine that left with `code`."""
    if code == -signal.SIGKILL:
        return _(
            "It was killed while it examined the folder, most likely for want of memory. "
            "Give the worker more, or choose a smaller model; then examine it again."
        )
    log = (directory / "engine.log").read_text("utf-8", "replace")
    said, _changed = repair_text(endings.read(directory).get("sentence") or endings.last_line(log))
    return said or _("The engine ended with status %(code)d and said nothing.") % {"code": code}
