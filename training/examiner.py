"""The examiner lets the engine look at what a round would train on, as a child process; it never imports torch."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

from django.conf import settings

from training.models import Examination
from training.rlhf.exits import InvalidInput
from training.runner import ENGINE_ENVIRONMENT, bind_to
from training.services import examinations, plans

LONGEST_S = 240
LONGEST_ERROR = 2_000  # characters

logger = logging.getLogger(__name__)


def examine(pk: int) -> None:
    """Do the examination `pk`, if nobody does it or has done it."""
    examination = examinations.take(pk)
    if examination is None:
        return
    directory = _clean_place(examination)
    try:
        examinations.write_request(examination.project, plans.make(examination.project), directory)
        _look(directory)
        seen = json.loads((directory / "examination.json").read_text("utf-8"))
        examinations.settle(examination, status=Examination.Status.DONE, **seen)
    except (OSError, InvalidInput, subprocess.SubprocessError) as failure:
        logger.warning("examination %s failed: %s", pk, failure)
        examinations.settle(examination, status=Examination.Status.FAILED, error=_words(failure))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _look(directory: Path) -> None:
    examiner = os.getpid()
    subprocess.run(
        [sys.executable, "-m", "training.rlhf", "examine", str(directory)],
        cwd=settings.BASE_DIR,
        env={name: os.environ[name] for name in ENGINE_ENVIRONMENT if name in os.environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=LONGEST_S,
        preexec_fn=lambda: bind_to(examiner),
    )


def _clean_place(examination: Examination) -> Path:
    """A folder for the examination; those of examiners that were killed are removed."""
    places = Path(settings.DATA_DIR) / "examinations"
    pending = Examination.objects.filter(status=Examination.Status.PENDING).values_list("pk", flat=True)
    busy = {str(pk) for pk in pending} - {str(examination.pk)}
    for left in places.glob("*"):
        if left.name not in busy:
            shutil.rmtree(left, ignore_errors=True)
    return places / str(examination.pk)


def _words(failure: Exception) -> str:
    """What a person is told of it: the last that the engine said."""
    if isinstance(failure, subprocess.CalledProcessError):
        said = failure.stderr.decode("utf-8", "replace").strip()
        return said.rpartition("\n")[2][-LONGEST_ERROR:] or str(failure)
    return str(failure)[-LONGEST_ERROR:]
