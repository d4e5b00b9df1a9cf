"""Stages as processes of their own, by the engine's command line, and what the kernel counted of each."""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
# torch warns of such an operator in a run, and goes on.
NOT_DETERMINISTIC = re.compile(r"(\S+) does not have a deterministic implementation")


class Ended(NamedTuple):
    """A process that has ended."""

    code: int  # negative: the signal that killed it
    seconds: float
    peak_bytes: int  # the most memory that it held; pages of mapped files count
    log: str  # what it said on standard error


class StageProcess:
    """A stage that runs in its run directory, with more environment variables than this process has."""

    def __init__(self, stage: str, run: Path, **environment: str) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open while the process runs
        self._began = time.monotonic()
        command: list[str | Path] = [sys.executable, "-m", "training.rlhf", stage, run]
        self._process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, stderr=self._log)

    def wait(self) -> Ended:
        """How it ended."""
        _, status, usage = os.wait4(self._process.pid, 0)
        self._process.returncode = code = os.waitstatus_to_exitcode(status)  # it is not waited for twice
        self._log.seek(0)
        with self._log as log:
            return Ended(code, time.monotonic() - self._began, usage.ru_maxrss * 1024, log.read())


def not_deterministic(log: str) -> list[str]:
    """The operators of which torch said that they are not deterministic."""
    return sorted(set(NOT_DETERMINISTIC.findall(log)))
