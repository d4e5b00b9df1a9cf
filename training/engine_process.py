"""The engine as a child process: starting, watching and ending it, for the runner and those that need its answer.

Its commands, and what follows from its end, are theirs. None of them imports torch.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import mmap
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TypeVar

from django.conf import settings
from django.db import Error as DatabaseFailure
from django.db import close_old_connections

from training.ready_engine import ReadyEngine
from training.rlhf.failpoints import VARIABLE as FAILPOINTS
from training.rlhf.memory import HUGE_PAGES
from training.rlhf.parent_process import die_with

ENGINE = "training.rlhf"
POLL_S = 0.25
NICENESS = 10  # people's requests come first on a shared machine
OUT_OF_MEMORY_SCORE = "500"  # and the kernel takes an engine before it takes what serves them
GPU = "CUDA_VISIBLE_DEVICES"
WITHOUT_GPU = {GPU: ""}  # for all but runs: a card belongs to the run that trains on it
# The engine gets what it computes with, and no secret of the web side.
ENVIRONMENT = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "TMPDIR", "VIRTUAL_ENV", GPU, FAILPOINTS, *HUGE_PAGES)

CANNOT_RUN = (errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.ENOEXEC)  # what is wrong with a program itself

T = TypeVar("T")
logger = logging.getLogger(__name__)


class NoLauncher(Exception):
    """The command that starts several processes cannot be run; the message says which it is, and why."""


class Draining:
    """Set by the worker's main process when it is told to stop; shared with its children, which are forked from it.

    A byte without a lock: a child that is killed while it reads can leave nothing locked behind. Nor a file, which web
    processes would keep open.
    """

    def __init__(self) -> None:
        self._byte = mmap.mmap(-1, 1)

    def set(self) -> None:
        self._byte[0] = 1

    def clear(self) -> None:
        self._byte[0] = 0

    def is_set(self) -> bool:
        return bool(self._byte[0])


draining = Draining()


class ProgressFile:
    """The file that an engine touches whenever there is progress."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._path = path
        self._touched_at = 0  # by the file's clock
        self._changed_at = time.monotonic()  # and by ours, which nobody can set

    def unchanged_s(self) -> float:
        """For how long there was no progress. Clocks of hosts and file systems differ and are set: ours decides."""
        touched_at = self._path.stat().st_mtime_ns
        if touched_at != self._touched_at:
            self._touched_at, self._changed_at = touched_at, time.monotonic()
        return time.monotonic() - self._changed_at


ready = ReadyEngine()


@contextlib.contextmanager
def started(
    arguments: Sequence[str],
    *,
    log: Path,
    module: str = ENGINE,
    processes: int = 1,
    environment: Mapping[str, str] | None = None,
    keeps_one_ready: bool = False,
) -> Iterator[subprocess.Popen[bytes]]:
    """The engine as the leader of its own process group, of which nothing is left at the end of the block.

    Several `processes` are children of a launcher, which is what is yielded then; they die with it. `environment` is
    added to what every engine gets; what it writes to its output is appended to `log`. With `keeps_one_ready`, it is
    the one that waits, and another one waits from now on. Raises NoLauncher.
    """
    own = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    environment = {**HUGE_PAGES, **own, **(environment or {})}
    keeps_one_ready = keeps_one_ready and module == ENGINE and processes == 1 and settings.KEEP_ENGINE_READY
    process = ready.take(arguments, log, environment) if keeps_one_ready else None
    if process is None:
        interpreter = launcher(processes) if processes > 1 else [sys.executable]
        with log.open("ab") as output:
            try:
                process = _start([*interpreter, "-m", module, *arguments], environment, output, subprocess.DEVNULL)
            except OSError as error:
                if processes == 1 or error.errno not in CANNOT_RUN:
                    raise
                raise NoLauncher(f"{interpreter[0]}: {error.strerror}") from error
    try:
        if keeps_one_ready:
            try:
                ready.prepare(_start_waiting, environment)
            except OSError as error:  # what only saves seconds must not end this run
                logger.warning("no engine waits for the next run: %s", error)
        yield process
    finally:
        signal_group(process, signal.SIGKILL)
        process.wait()


def _start_waiting(environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", f"{ENGINE}.waiting"]
    return _start(command, environment, subprocess.DEVNULL, subprocess.PIPE)


def _start(
    command: Sequence[str], environment: Mapping[str, str], output: IO[bytes] | int, given: int
) -> subprocess.Popen[bytes]:
    parent = os.getpid()
    return subprocess.Popen(
        command,
        cwd=settings.BASE_DIR,
        env=environment,
        stdin=given,
        stdout=output,
        stderr=subprocess.STDOUT,
        process_group=0,  # and not its own session: Linux weighs niceness within sessions only
        preexec_fn=lambda: _bind_to(parent),
    )


def launcher(processes: int) -> list[str]:
    """The command that starts so many processes of a Python module, which `-m` and its name follow.

    Raises NoLauncher.
    """
    values = {"{python}": sys.executable, "{processes}": str(processes)}
    try:
        words = shlex.split(settings.ENGINE_LAUNCHER)
    except ValueError as error:
        raise NoLauncher(f"{settings.ENGINE_LAUNCHER}: {error}") from error
    if not words:
        raise NoLauncher("ROUNDTABLE_ENGINE_LAUNCHER is empty")
    for name, value in values.items():
        words = [word.replace(name, value) for word in words]
    return words


def wait(process: subprocess.Popen[bytes], seconds: float = POLL_S) -> int | None:
    """The exit code of `process`, negative for a signal; None where it still runs after `seconds`."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to the engine and to what it has started; they may have ended meanwhile."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def heartbeat(write: Callable[[], T], *, of: str) -> T | None:
    """What `write` returns; None while the database cannot be reached: the engine goes on meanwhile."""
    try:
        return write()
    except DatabaseFailure as error:
        logger.warning("no heartbeat for %s: %s", of, error)
        close_old_connections()
        return None


def _bind_to(parent: int) -> None:
    """In the child before exec: die with the parent, and let others go first."""
    die_with(parent)
    os.nice(NICENESS)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OUT_OF_MEMORY_SCORE, "ascii")
