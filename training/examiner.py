"""The examiner lets the engine look at what a round would train on, as a child process; it never imports torch."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseFailure
from django.db import close_old_connections

from annotate.services.text import repair_json, repair_text
from training.models import Examination
from training.rlhf import endings
from training.rlhf.exits import InvalidInput
from training.runner import ENGINE_ENVIRONMENT, bind_to
from training.services.planning import examinations, plans

LONGEST_S = 240
BEAT_S = 5.0  # between two signs of life while the engine looks

logger = logging.getLogger(__name__)


class LookFailed(Exception):
    """The engine did not come to an end of its look; `facts` say why, as data."""

    def __init__(self, facts: dict[str, Any]) -> None:
        super().__init__(facts.get("sentence", ""))
        self.facts = facts


def examine(pk: int) -> None:
    """Do the examination `pk`, if nobody does it or has done it."""
    examination = examinations.take(pk)
    if examination is None:
        return
    directory = _clean_place(examination)
    try:
        examinations.write_request(examination.project, plans.draft(examination.project), directory)
        _look(directory, examination)
        seen = json.loads((directory / "examination.json").read_text("utf-8"))
        examinations.settle(examination, status=Examination.Status.DONE, **seen)
    except (OSError, InvalidInput, LookFailed) as failure:
        logger.warning("examination %s failed: %s", pk, failure)
        facts = failure.facts if isinstance(failure, LookFailed) else endings.describe(failure)
        error = repair_text(str(facts.get("sentence", "")))[0]
        examinations.settle(examination, status=Examination.Status.FAILED, error=error, ending=repair_json(facts))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _look(directory: Path, examination: Examination) -> None:
    """Let the engine look, and say meanwhile that somebody is at it. Raises LookFailed where it comes to no end."""
    give_up = time.monotonic() + LONGEST_S
    with _engine(directory) as process:
        while True:
            try:
                _, said = process.communicate(timeout=BEAT_S)
                break
            except subprocess.TimeoutExpired:
                if time.monotonic() > give_up:
                    raise LookFailed({"kind": "look_too_long", "numbers": {"seconds": LONGEST_S}}) from None
                _beat(examination)
    if process.returncode:
        raise LookFailed(endings.read(directory) or _unsaid(process.returncode, said))


@contextlib.contextmanager
def _engine(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The engine at its look; nothing is left of it at the end of the block."""
    examiner = os.getpid()
    process = subprocess.Popen(
        [sys.executable, "-m", "training.rlhf", "examine", str(directory)],
        cwd=settings.BASE_DIR,
        env={name: os.environ[name] for name in ENGINE_ENVIRONMENT if name in os.environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: bind_to(examiner),
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _beat(examination: Examination) -> None:
    try:
        examinations.beat(examination)
    except DatabaseFailure as error:  # the look goes on; its result waits for the database as long as its task does
        logger.warning("no heartbeat for examination %s: %s", examination.pk, error)
        close_old_connections()


def _unsaid(exit_code: int, said: bytes) -> dict[str, Any]:
    """The end of an engine that left no word as data."""
    kind = "killed" if exit_code == -signal.SIGKILL else "unknown"
    return {
        "kind": kind,
        "numbers": {"exit_code": exit_code},
        "sentence": endings.last_line(said.decode("utf-8", "replace")),
    }


def _clean_place(examination: Examination) -> Path:
    """A folder for the examination; those of examiners that were killed are removed."""
    places = Path(settings.DATA_DIR) / "examinations"
    pending = Examination.objects.filter(status=Examination.Status.PENDING).values_list("pk", flat=True)
    busy = {str(pk) for pk in pending} - {str(examination.pk)}
    for left in places.glob("*"):
        if left.name not in busy:
            shutil.rmtree(left, ignore_errors=True)
    return places / str(examination.pk)
