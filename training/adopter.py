"""The adopter has the engine examine a folder of BASE_MODELS_DIR, as a child process; it never imports torch."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from annotate.services.text import repair_text
from training import engine_process
from training.engine_process import ProgressFile, draining
from training.models import Adoption, LostRace
from training.rlhf import endings, exits
from training.services.machines import resources
from training.services.registry import adoption_words, adoptions, model_folders

LONGEST_S = 6 * 3600.0  # a large model, read from a slow disk and tested on a CPU

logger = logging.getLogger(__name__)


class _Stopped(Exception):
    """The adopter has stopped the engine; the message, if there is one, says why the folder fails."""


def examine(pk: int, *, worker: str) -> None:
    """Do the adoption `pk`, if it waits and no other is being done; then ring for the next one."""
    if draining.is_set():
        return  # the row stays, and the next worker is rung for it
    adoption = adoptions.claim(pk, worker=worker)
    if adoption is None:
        return
    directory = _empty_directory(adoption)
    try:
        _examine(adoption, directory)
    except LostRace as lost:
        logger.warning("%s", lost)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if not draining.is_set():
        adoptions.ring_next()


def _examine(adoption: Adoption, directory: Path) -> None:
    """Let the engine examine the folder, and store what it found. Raises LostRace where another worker has it now."""
    try:
        directory.mkdir(parents=True)
        _settle(adoption, directory, _run_engine(adoption, directory))
    except (OSError, ValueError, KeyError) as failure:
        logger.warning("adoption %s failed", adoption.pk, exc_info=True)
        sentence = resources.disk_full(failure) if endings.is_disk_full(failure) else str(failure)
        adoptions.fail(adoption, sentence[-endings.LONGEST :])
    except _Stopped as stopped:
        if str(stopped):
            adoptions.fail(adoption, str(stopped))
        else:
            adoptions.requeue(adoption)


def _settle(adoption: Adoption, directory: Path, exit_code: int) -> None:
    """Store what the engine found."""
    if exit_code not in (exits.DONE, exits.InvalidInput.code):
        return adoptions.fail(adoption, _explain(directory, exit_code))
    report: dict[str, Any] = json.loads((directory / "report.json").read_text("utf-8"))
    if _has_changed(adoption):
        return adoptions.fail(adoption, _("The folder was changed during the check. It is being checked again."))
    if exit_code == exits.DONE:
        return adoptions.adopt(adoption, report, directory / "model")
    return adoptions.refuse(adoption, report, adoption_words.refusal(report) or _explain(directory, exit_code))


def _run_engine(adoption: Adoption, directory: Path) -> int:
    """The exit code of the engine. Raises LostRace, or _Stopped where it was not let to its end."""
    folder = model_folders.path_of(adoption.folder).resolve()
    command = ["adopt", str(folder), str(directory)]
    if adoption.context:
        command += ["--context", str(adoption.context)]
    progress = ProgressFile(directory / "alive")
    with engine_process.started(
        command, log=directory / "engine.log", environment=engine_process.WITHOUT_GPU
    ) as process:
        started_at = heartbeat_at = time.monotonic()
        while (exit_code := engine_process.wait(process)) is None:
            _stop_if_needed(progress, started_at)
            if time.monotonic() - heartbeat_at > settings.RUN_HEARTBEAT_S:
                heartbeat_at = time.monotonic()
                _heartbeat(adoption)
    return exit_code


def _stop_if_needed(progress: ProgressFile, started_at: float) -> None:
    """Raises _Stopped where the worker is told to stop, or the engine hangs or takes too long."""
    if draining.is_set():
        raise _Stopped
    if progress.unchanged_s() > settings.RUN_STALL_S:
        raise _Stopped(_("It made no progress for %(minutes)d minutes.") % {"minutes": settings.RUN_STALL_S / 60})
    if time.monotonic() - started_at > LONGEST_S:
        raise _Stopped(_("It took more than %(hours)d hours.") % {"hours": LONGEST_S / 3600})


def _heartbeat(adoption: Adoption) -> None:
    """Raises LostRace where another worker has taken the folder over."""
    is_held = engine_process.heartbeat(lambda: adoptions.heartbeat(adoption), of=f"adoption {adoption.pk}")
    if is_held is False:
        raise LostRace(f"adoption {adoption.pk} is no longer held under fence {adoption.fence}")


def _has_changed(adoption: Adoption) -> bool:
    try:
        return model_folders.inspect(adoption.folder).fingerprint != adoption.fingerprint
    except model_folders.Unreadable:
        return True


def _empty_directory(adoption: Adoption) -> Path:
    """The path of a directory for this attempt; those of adopters that were killed are removed: one works at a time."""
    parent = Path(settings.DATA_DIR) / "adoptions"
    for left in parent.glob("*"):
        shutil.rmtree(left, ignore_errors=True)
    return parent / f"{adoption.pk}-{adoption.fence}"


def _explain(directory: Path, exit_code: int) -> str:
    """In words, why the engine ended with `exit_code`."""
    if exit_code == -signal.SIGKILL:
        return _(
            "The check was killed, most likely because it ran out of memory. Give the "
            "worker more memory or choose a smaller model, then check again."
        )
    log = (directory / "engine.log").read_text("utf-8", "replace")
    sentence, _changed = repair_text(endings.read(directory).get("sentence") or endings.last_line(log))
    return sentence or _("The engine exited with status %(code)d without a message.") % {"code": exit_code}
