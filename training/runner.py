"""The runner sees one engine process through: start, follow, report, stop, and say how it ended.

It holds a run only through the database row; whatever kills it, the lease runs out and another attempt goes on from
the newest checkpoint. It never imports torch.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import multiprocessing.sharedctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.db import Error as DatabaseFailure
from django.db import InterfaceError, OperationalError, close_old_connections

from annotate.services.text import repair_text
from training.models import LostRace, Run
from training.rlhf import endings, exits
from training.rlhf.failpoints import VARIABLE as FAILPOINTS
from training.rlhf.failpoints import reach
from training.services.machines import disk_space, workers
from training.services.run_files import directories, environment, metrics
from training.services.running import memory_kills, results, rounds, runs
from training.services.running.runs import Ending

POLL_S = 0.25
RETRY_S = 1.0  # between two heartbeats while the database cannot be reached: its first word decides
DUMP_S = 0.5  # for an engine that hangs to write down where
GRACE_S = 75.0  # to write a checkpoint after SIGTERM: with a heartbeat before it, a cancellation takes 90 s at most
DATABASE_PATIENCE_S = 900.0  # with the end of a run, while the database cannot be reached
NICENESS = 10  # people's requests come first on a shared machine
OUT_OF_MEMORY_SCORE = "500"  # and the kernel takes an engine before it takes what serves them
PR_SET_PDEATHSIG = 1
# The engine is told what it computes with, and no secret of the web side.
ENGINE_ENVIRONMENT = (
    "PATH",
    "HOME",
    "LANG",
    "LD_LIBRARY_PATH",
    "TMPDIR",
    "VIRTUAL_ENV",
    "CUDA_VISIBLE_DEVICES",
    FAILPOINTS,
)

DELIBERATE = {end.code: end.kind for end in exits.EngineExit.__subclasses__()}
# An engine that could not write down why it left: a full disk keeps it from that, too.
UNSAID = DELIBERATE | {exits.NeedsPerson.code: "disk"}
SIGNALS = {signal.SIGKILL: "killed", signal.SIGTERM: "stopped", signal.SIGINT: "stopped"}  # others are crashes


class Draining:
    """Set by the worker's main process when it is told to stop; shared with its children, which are forked from it.

    A byte without a lock: a child that is killed while it looks can leave nothing locked behind.
    """

    def __init__(self) -> None:
        self._byte = multiprocessing.sharedctypes.RawValue("b", 0)

    def set(self) -> None:
        self._byte.value = 1

    def clear(self) -> None:
        self._byte.value = 0

    def is_set(self) -> bool:
        return bool(self._byte.value)


draining = Draining()

_libc = ctypes.CDLL(None, use_errno=True)
logger = logging.getLogger(__name__)


def supervise(run_pk: int, *, owner: str) -> None:
    """Take run `run_pk`, or one that waits longer, and see it to its end; nothing happens where there is none."""
    if draining.is_set():
        return  # the row stays queued, and the next worker is rung for it
    run = runs.claim(run_pk, owner=owner)
    if run is None:
        logger.info("nothing to do for run %s", run_pk)
        return
    logger.info("run %s (%s) starts under fence %s", run.pk, run.stage, run.fence)
    workers.occupy(owner, run)
    try:
        ending = Engine(run).see_through()
        logger.info("run %s ended with %s", run.pk, ending.exit_code)
        reach("engine-ended", run.stage)
        _conclude(run, ending)
        reach("run-concluded", run.stage)
    except LostRace as lost:
        logger.warning("%s", lost)
    finally:
        workers.occupy(owner, None)
    if run.round:
        rounds.advance(run.round)
    if not draining.is_set():
        runs.ring_next()
    if run.round:
        run.round.refresh_from_db()
        results.load(run.round)  # so that no page has to work it out


def _conclude(run: Run, ending: Ending) -> None:
    """Finish `run`; a database that cannot be reached is waited for, since the work is done."""
    give_up = time.monotonic() + DATABASE_PATIENCE_S
    while True:
        try:
            runs.finish(run, ending)
        except (OperationalError, InterfaceError) as error:
            if draining.is_set() or time.monotonic() > give_up:
                raise
            logger.warning("the end of run %s waits for the database: %s", run.pk, error)
            close_old_connections()
            time.sleep(1)
        else:
            return


class Engine:
    """One attempt at a run as a process."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.attempt = directories.attempt(run.directory, run.fence)
        self.alive = run.directory / "alive"
        self.position = metrics.BEGINNING  # how far they were read
        self.stopping_since: float | None = None
        self.is_stalled = False
        self.shortage = ""  # why the run has to be held
        self.memory_kills = memory_kills.Counter(memory_kills.own_events())
        self._touched = 0  # when the engine last said that there is progress, by the file's clock
        self._heard_at = time.monotonic()  # and by ours, which nobody can set

    def see_through(self) -> Ending:
        """Start the engine, follow it and return how it ended. Raises LostRace when the run is no longer ours."""
        try:
            self._prepare()
        except OSError as error:
            if not endings.fills_the_disk(error):
                raise
            self.shortage = disk_space.full(error)
        if self.shortage:
            return Ending(exits.NeedsPerson.code, self.shortage, {"kind": "disk"})
        with self._started() as process:
            next_heartbeat = 0.0
            while process.poll() is None:
                if time.monotonic() >= next_heartbeat:
                    is_heard = self._report(process)
                    pause = settings.RUN_HEARTBEAT_S if is_heard else min(RETRY_S, settings.RUN_HEARTBEAT_S)
                    next_heartbeat = time.monotonic() + pause
                self._stop_if_needed(process)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_S)
        self._read_progress()
        return self._ending(process.returncode)

    def _prepare(self) -> None:
        """From here on only this attempt writes, if there is room for what it writes."""
        directories.write_fence(self.run.directory, self.run.fence)
        directories.discard_drafts(self.run.directory)
        self.attempt.mkdir(parents=True, exist_ok=True)
        self.alive.touch()
        self.shortage = disk_space.shortage()

    @contextlib.contextmanager
    def _started(self) -> Iterator[subprocess.Popen[bytes]]:
        """The engine as the leader of its own process group, of which nothing is left at the end of the block."""
        environment.write(self.run, self.attempt)
        parent = os.getpid()
        with (self.attempt / directories.LOG).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", settings.ENGINE_MODULE, self.run.stage, str(self.run.directory)],
                cwd=settings.BASE_DIR,
                env={name: os.environ[name] for name in ENGINE_ENVIRONMENT if name in os.environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,  # and not its own session: Linux weighs niceness within sessions only
                preexec_fn=lambda: bind_to(parent),
            )
        try:
            yield process
        finally:
            _signal_group(process, signal.SIGKILL)
            process.wait()

    def _report(self, process: subprocess.Popen[bytes]) -> bool:
        """Renew the lease; False while the database cannot be reached: the engine goes on, its checkpoints are files.

        Raises LostRace when the run is no longer ours.
        """
        self._read_progress()
        try:
            pulse = runs.heartbeat(self.run, step=self.run.step, total=self.run.total)
        except DatabaseFailure as error:
            logger.warning("no heartbeat for run %s: %s", self.run.pk, error)
            close_old_connections()
            return False
        if not pulse.holds:
            raise LostRace(f"run {self.run.pk} is no longer held under fence {self.run.fence}")
        self.shortage = self.shortage or disk_space.shortage()
        if pulse.cancel_requested or self.shortage:
            self._ask_to_stop(process)
        return True

    def _stop_if_needed(self, process: subprocess.Popen[bytes]) -> None:
        if draining.is_set():
            self._ask_to_stop(process)
        if self.stopping_since and time.monotonic() - self.stopping_since > GRACE_S:
            _signal_group(process, signal.SIGKILL)
        if self._silence_s() > settings.RUN_STALL_S:
            self.is_stalled = True
            _signal_group(process, signal.SIGUSR1)
            time.sleep(DUMP_S)
            _signal_group(process, signal.SIGKILL)

    def _silence_s(self) -> float:
        """For how long there was no progress. Clocks of hosts and file systems differ and are set: ours decides."""
        touched = self.alive.stat().st_mtime_ns
        if touched != self._touched:
            self._touched, self._heard_at = touched, time.monotonic()
        return time.monotonic() - self._heard_at

    def _ask_to_stop(self, process: subprocess.Popen[bytes]) -> None:
        if self.stopping_since is None:
            self.stopping_since = time.monotonic()
            _signal_group(process, signal.SIGTERM)

    def _read_progress(self) -> None:
        new = metrics.read(self.attempt, since=self.position)
        self.position = new.end
        if new.rows:
            self.run.step, self.run.total = new.rows[-1].step, new.rows[-1].total

    def _ending(self, exit_code: int) -> Ending:
        if self.is_stalled:
            error = f"The engine made no progress for {settings.RUN_STALL_S / 60:.0f} minutes."
            return Ending(exit_code, error, {"kind": "stall"})
        if self.shortage and self.stopping_since and exit_code != exits.DONE:
            return Ending(exits.NeedsPerson.code, self.shortage, {"kind": "disk"})
        if exit_code < 0:
            return self._killed(signal.Signals(-exit_code))
        if exit_code == exits.DONE:
            return Ending(exit_code, "")
        return self._left(exit_code)

    def _left(self, exit_code: int) -> Ending:
        """What an engine says that ended by itself, on purpose or in an exception."""
        facts = endings.read(self.attempt) or {"kind": UNSAID.get(exit_code, "unknown")}
        said, _ = repair_text(str(facts.get("sentence", "")))
        if exit_code not in DELIBERATE:
            crashed = f"The engine crashed with exit status {exit_code}"
            return Ending(exit_code, f"{crashed}: {said}" if said else f"{crashed}.", facts)
        said = said or endings.last_line(directories.log_tail(self.run.directory, self.run.fence))
        return Ending(exit_code, said, facts)

    def _killed(self, by: signal.Signals) -> Ending:
        if self.stopping_since:
            # The signal that we sent came before the engine could listen to it, or it did not listen in time.
            return Ending(exits.Interrupted.code, "The engine was stopped on request.", {"kind": "interrupted"})
        if by == signal.SIGKILL and self.memory_kills.has_risen():
            return memory_kills.ending(self.run)
        facts = {"kind": SIGNALS.get(by, "killed_by_fault"), "numbers": {"signal": by.name}}
        return Ending(-by, f"The engine was killed by {by.name}.", facts)


def bind_to(parent: int) -> None:
    """In the child before exec: die with the supervisor, and let others go first."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)
    os.nice(NICENESS)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OUT_OF_MEMORY_SCORE, "ascii")


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
