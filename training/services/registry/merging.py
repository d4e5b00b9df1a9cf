"""Merging: the engine adds an adapter to the weights of its base, so that other programs can read the model.

The whole model lies in a folder of its own as long as somebody packs it, and nowhere afterwards.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from django.conf import settings
from django.utils.translation import gettext as _

from annotate.services.text import repair_text
from training import engine_process
from training.models import Download, ModelVersion
from training.rlhf import endings, exits
from training.services.registry import model_sizes

LONGEST_S = 2 * 3600.0  # a large model on a slow disk
LOOK_S = 1.0  # between two looks at the engine
SUFFIX = ".merge"  # of the folders in DATA_DIR/downloads

logger = logging.getLogger(__name__)


class NotMerged(Exception):
    """The engine could not merge the adapter; the message says why."""


class Stopped(Exception):
    """The worker is told to stop: another one starts over."""


def expected_bytes(model: ModelVersion) -> int:
    """About how large the files of an adapter's whole model will be."""
    assert model.stands_on
    return model_sizes.fp32_bytes(model.stands_on, model_sizes.shape_of(model.stands_on))


@contextlib.contextmanager
def merged(download: Download, heartbeat: Callable[[], None]) -> Iterator[Path]:
    """The directory of the whole model, which is gone at the end of the block.

    `heartbeat` is called now and then meanwhile; what it raises ends the engine. Raises NotMerged, Stopped or OSError.
    """
    scratch = _folder() / f".{download.uuid}-{download.fence}{SUFFIX}"
    try:
        scratch.mkdir(parents=True)
        _run_engine(download, scratch, heartbeat)
        yield scratch / "model"
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def discard_leftovers() -> None:
    """Delete what packers left that were killed."""
    found = list(_folder().glob(f".*{SUFFIX}"))  # first: the row of a folder that is made meanwhile is there already
    packing = Download.objects.filter(status=Download.Status.PACKING)
    in_use = {f".{uuid}-{fence}{SUFFIX}" for uuid, fence in packing.values_list("uuid", "fence")}
    for path in found:
        if path.name not in in_use:
            logger.warning("removing %s, which nobody packs any more", path)
            shutil.rmtree(path, ignore_errors=True)


def _run_engine(download: Download, scratch: Path, heartbeat: Callable[[], None]) -> None:
    model, give_up = download.model_version, time.monotonic() + LONGEST_S
    assert model.stands_on
    command = ["merge", str(model.directory), str(model.stands_on.directory), str(scratch / "model")]
    log = scratch / "engine.log"
    with engine_process.started(command, log=log, environment=engine_process.WITHOUT_GPU) as process:
        while (exit_code := engine_process.wait(process, LOOK_S)) is None:
            if engine_process.draining.is_set():
                raise Stopped
            if time.monotonic() > give_up:
                raise NotMerged(_("Merging took more than %(hours)d hours.") % {"hours": LONGEST_S / 3600})
            engine_process.heartbeat(heartbeat, of=str(download))
    if exit_code == exits.NeedsPerson.code:
        raise OSError(errno.ENOSPC, "no room for the merged model")
    if exit_code != exits.DONE:
        raise NotMerged(_explain(exit_code, log))


def _explain(exit_code: int, log: Path) -> str:
    """In words, why the engine ended with `exit_code`."""
    if exit_code == -signal.SIGKILL:
        return _("Merging was killed, most likely because it ran out of memory. It needs room for the whole model.")
    said, _changed = repair_text(endings.last_line(log.read_text("utf-8", "replace")))
    return _("The adapter could not be merged: %(why)s") % {"why": said or _("exit status %d") % exit_code}


def _folder() -> Path:
    return Path(settings.DATA_DIR) / "downloads"
