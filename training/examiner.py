"""The examiner lets the engine find out what the plan of a round shows, as a child process; it never imports torch.

What a round would train on is examined, and what each of its stages needs at its peak is counted.
"""

from __future__ import annotations

import json
import logging
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from django.conf import settings

from annotate.services.text import repair_json, repair_text
from training import engine_process
from training.models import Examination, Worker
from training.rlhf import endings
from training.rlhf.exits import InvalidInput
from training.services.planning import examinations, memory_counts, plans

LONGEST_S = 240
LONGEST_COUNT_S = 900  # on busy cores, each variant of a large model's stage takes up to two minutes
HEARTBEAT_S = 5.0  # shorter than a run's: a person waits for the result, and another worker soon takes it over

logger = logging.getLogger(__name__)


class _Stopped(Exception):
    """The worker is told to stop; the examination stays pending, and another one takes it over."""


class ExaminationFailed(Exception):
    """The engine did not come to an end; `facts` say why, as data."""

    def __init__(self, facts: dict[str, Any]) -> None:
        super().__init__(facts.get("sentence", ""))
        self.facts = facts


def examine(pk: int) -> None:
    """Do the examination `pk`, if nobody does it or has done it."""
    examination = examinations.claim(pk)
    if examination is None:
        return
    directory = _empty_directory(examination)
    try:
        found = WAYS[examination.kind](examination, directory)
        examinations.finish(examination, status=Examination.Status.DONE, **found)
    except (OSError, InvalidInput, ExaminationFailed) as failure:
        logger.warning("examination %s failed: %s", pk, failure)
        facts = failure.facts if isinstance(failure, ExaminationFailed) else endings.describe(failure)
        error = repair_text(str(facts.get("sentence", "")))[0]
        examinations.finish(examination, status=Examination.Status.FAILED, error=error, ending=repair_json(facts))
    except _Stopped:
        examinations.release(examination)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _examine_records(examination: Examination, directory: Path) -> dict[str, Any]:
    """The findings and the examples."""
    examinations.write_request(examination.project, plans.draft(examination.project), directory)
    _run_engine(examination, directory, ["examine", str(directory)], LONGEST_S)
    found: dict[str, Any] = json.loads((directory / "examination.json").read_text("utf-8"))
    return found


def _count_memory(examination: Examination, directory: Path) -> dict[str, Any]:
    """What every stage needs, on each kind of device that a gpu-worker has."""
    alive = list(Worker.objects.alive("gpu"))
    runs = memory_counts.write_runs(examination, alive, directory)
    if not runs:
        examination.delete()  # of a plan that has changed meanwhile: its page has asked for another count
        return {}
    counts = {}
    for kind, within in memory_counts.devices(alive).items():
        out = directory / f"{kind}.json"
        options = ["--device", kind, "--within", str(within), "--out", str(out)]
        _run_engine(examination, directory, ["memory", *map(str, runs), *options], LONGEST_COUNT_S)
        counts[kind] = json.loads(out.read_text("utf-8"))["stages"]
    return {"counts": repair_json(counts)}


WAYS: dict[str, Callable[[Examination, Path], dict[str, Any]]] = {
    Examination.Kind.RECORDS: _examine_records,
    Examination.Kind.MEMORY: _count_memory,
}


def _run_engine(examination: Examination, directory: Path, arguments: Sequence[str], longest_s: float) -> None:
    """Let the engine work in `directory`. Raises ExaminationFailed where it comes to no end, or _Stopped."""
    give_up = time.monotonic() + longest_s
    log = directory / "engine.log"
    with engine_process.started(arguments, log=log, environment=engine_process.WITHOUT_GPU) as process:
        while (exit_code := engine_process.wait(process, HEARTBEAT_S)) is None:
            if engine_process.draining.is_set():
                raise _Stopped
            if time.monotonic() > give_up:
                raise ExaminationFailed({"kind": "look_too_long", "numbers": {"seconds": longest_s}})
            engine_process.heartbeat(lambda: examinations.heartbeat(examination), of=f"examination {examination.pk}")
    if exit_code:
        raise ExaminationFailed(endings.read(directory) or _unexplained(exit_code, log))


def _unexplained(exit_code: int, log: Path) -> dict[str, Any]:
    """The ending of an engine that wrote none."""
    kind = "killed" if exit_code == -signal.SIGKILL else "unknown"
    return {
        "kind": kind,
        "numbers": {"exit_code": exit_code},
        "sentence": endings.last_line(log.read_text("utf-8", "replace")),
    }


def _empty_directory(examination: Examination) -> Path:
    """The path of a directory for the examination; those of examiners that were killed are removed."""
    parent = Path(settings.DATA_DIR) / "examinations"
    pending = Examination.objects.pending().values_list("pk", flat=True)
    busy = {str(pk) for pk in pending} - {str(examination.pk)}
    for left in parent.glob("*"):
        if left.name not in busy:
            shutil.rmtree(left, ignore_errors=True)
    return parent / str(examination.pk)
