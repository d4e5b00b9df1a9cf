"""The runner supervises one engine process: it starts it, renews the lease, stops it, and stores how it ended.

It holds a run only through the database row: when it is killed, the lease runs out and another attempt goes on from
the newest checkpoint. It never imports torch.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import signal
import subprocess
import time

from django.conf import settings
from django.db import InterfaceError, OperationalError, close_old_connections

from annotate.services.text import repair_text
from training import engine_process
from training.engine_process import ProgressFile, draining, signal_group
from training.models import LostRace, Run
from training.rlhf import endings, exits
from training.rlhf.failpoints import reach
from training.rlhf.run import rank_notes
from training.rlhf.run.rank_notes import RankNote
from training.services.machines import resources, workers
from training.services.run_files import directories, environment, metrics
from training.services.run_files.reader import RunFiles
from training.services.running import memory_kills, results, rounds, runs
from training.services.running.runs import Ending

RETRY_S = 1.0  # between two heartbeats while the database cannot be reached
DUMP_S = 0.5  # for an engine that hangs to log its stack
GRACE_S = 75.0  # to write a checkpoint after SIGTERM: with a heartbeat before it, a cancellation takes 90 s at most
DATABASE_PATIENCE_S = 900.0  # with the end of a run, while the database cannot be reached

DELIBERATE = {end.code: end.kind for end in exits.EngineExit.__subclasses__()}
# An engine that could not write down why it left: a full disk keeps it from that, too.
UNEXPLAINED = DELIBERATE | {exits.NeedsPerson.code: "disk"}
SIGNALS = {signal.SIGKILL: "killed", signal.SIGTERM: "stopped", signal.SIGINT: "stopped"}  # others are crashes

logger = logging.getLogger(__name__)


def supervise(run_pk: int, *, owner: str) -> None:
    """Claim run `run_pk`, or one that waits longer, and supervise it to its end; does nothing where there is none."""
    if draining.is_set():
        return  # the row stays queued, and the next worker is rung for it
    run = runs.claim(run_pk, owner=owner)
    if run is None:
        logger.info("nothing to do for run %s", run_pk)
        return
    logger.info("run %s (%s) starts under fence %s", run.pk, run.stage, run.fence)
    workers.occupy(owner, run)
    try:
        ending = Engine(run).supervise()
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
            logger.warning("run %s has ended; waiting for the database to record it: %s", run.pk, error)
            close_old_connections()
            time.sleep(1)
        else:
            return


class Engine:
    """One attempt at a run as a process."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.attempt = directories.attempt(run.directory, run.fence)
        self.position = metrics.BEGINNING  # how far they were read
        self.stopping_since: float | None = None
        self.is_stalled = False
        self.hanging: RankNote | None = None  # the one of several processes that the others waited for then
        self.shortage = ""  # why the run has to be held
        self.memory_kills = memory_kills.Counter(memory_kills.own_events())
        self.processes = RunFiles(run).processes

    def supervise(self) -> Ending:
        """Start the engine, follow it and return how it ended. Raises LostRace when the run is no longer ours."""
        try:
            self._prepare()
        except OSError as error:
            if not endings.is_disk_full(error):
                raise
            self.shortage = resources.disk_full(error)
        if self.shortage:
            return Ending(exits.NeedsPerson.code, self.shortage, {"kind": "disk"})
        environment.write(self.run, self.attempt)
        command = [self.run.stage, str(self.run.directory)]
        log = self.attempt / directories.LOG
        module = settings.ENGINE_MODULE
        try:
            with engine_process.started(
                command, log=log, module=module, processes=self.processes, keeps_one_ready=True
            ) as process:
                exit_code = self._follow(process)
        except engine_process.NoLauncher as error:
            return Ending(
                exits.InvalidInput.code, f"The processes could not be started: {error}.", {"kind": "launcher"}
            )
        self._read_progress()
        return self._ending(exit_code)

    def _prepare(self) -> None:
        """From here on only this attempt writes, if there is room for what it writes."""
        directories.write_fence(self.run.directory, self.run.fence)
        directories.discard_drafts(self.run.directory)
        self.attempt.mkdir(parents=True, exist_ok=True)
        self.progress = ProgressFile(self.run.directory / "alive")
        self.shortage = resources.disk_shortage()

    def _follow(self, process: subprocess.Popen[bytes]) -> int:
        """Renew the lease and watch the engine until it has ended; its exit code."""
        next_heartbeat = 0.0
        while (exit_code := process.poll()) is None:
            if time.monotonic() >= next_heartbeat:
                is_stored = self._heartbeat(process)
                pause = settings.RUN_HEARTBEAT_S if is_stored else min(RETRY_S, settings.RUN_HEARTBEAT_S)
                next_heartbeat = time.monotonic() + pause
            self._stop_if_needed(process)
            engine_process.wait(process)
        return exit_code

    def _heartbeat(self, process: subprocess.Popen[bytes]) -> bool:
        """Renew the lease; False while the database cannot be reached: the engine goes on, its checkpoints are files.

        Raises LostRace when the run is no longer ours.
        """
        self._read_progress()
        lease = engine_process.heartbeat(
            lambda: runs.heartbeat(self.run, step=self.run.step, total=self.run.total), of=f"run {self.run.pk}"
        )
        if lease is None:
            return False
        if not lease.is_held:
            raise LostRace(f"run {self.run.pk} is no longer held under fence {self.run.fence}")
        self.shortage = self.shortage or resources.disk_shortage()
        if lease.cancel_requested or self.shortage:
            self._ask_to_stop(process)
        return True

    def _stop_if_needed(self, process: subprocess.Popen[bytes]) -> None:
        if draining.is_set():
            self._ask_to_stop(process)
        if self.stopping_since and time.monotonic() - self.stopping_since > GRACE_S:
            signal_group(process, signal.SIGKILL)
        if self.progress.unchanged_s() > settings.RUN_STALL_S:
            self.is_stalled = True
            self.hanging = rank_notes.last(self.attempt)
            self._have_stacks_logged(process)
            time.sleep(DUMP_S)
            signal_group(process, signal.SIGKILL)

    def _have_stacks_logged(self, process: subprocess.Popen[bytes]) -> None:
        """Have the engine log where it hangs: a launcher passes no such signal on, but its processes are known."""
        here = [note.pid for note in rank_notes.read(self.attempt) if note.host == platform.node()]
        for pid in here:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)
        if not here:
            signal_group(process, signal.SIGUSR1)

    def _ask_to_stop(self, process: subprocess.Popen[bytes]) -> None:
        if self.stopping_since is None:
            self.stopping_since = time.monotonic()
            signal_group(process, signal.SIGTERM)

    def _read_progress(self) -> None:
        new = metrics.read(self.attempt, since=self.position)
        self.position = new.end
        if new.rows:
            self.run.step, self.run.total = new.rows[-1].step, new.rows[-1].total

    def _ending(self, exit_code: int) -> Ending:
        if self.is_stalled:
            error = f"The engine made no progress for {settings.RUN_STALL_S / 60:.0f} minutes."
            if self.hanging:
                error += f" Its other processes waited for number {self.hanging.rank}, on {self.hanging.host}."
            return Ending(exit_code, error, {"kind": "stall"})
        if self.shortage and self.stopping_since and exit_code != exits.DONE:
            return Ending(exits.NeedsPerson.code, self.shortage, {"kind": "disk"})
        if exit_code == exits.DONE:
            return Ending(exit_code, "")
        if self.processes > 1:
            exit_code = self._decided(exit_code)
        if exit_code < 0:
            return self._killed(signal.Signals(-exit_code))
        return self._exited(exit_code)

    def _decided(self, exit_code: int) -> int:
        """The exit code of the process that made the others end, where the launcher had `exit_code`."""
        if ending := endings.read(self.attempt):
            return int(ending.get("exit_code", exit_code))
        # One that is killed says nothing, and the others do not know why it went.
        return -signal.SIGKILL if rank_notes.read(self.attempt) else exit_code

    def _exited(self, exit_code: int) -> Ending:
        """The ending of an engine that left by itself, on purpose or with an exception."""
        facts = endings.read(self.attempt) or {"kind": UNEXPLAINED.get(exit_code, "unknown")}
        error, _changed = repair_text(str(facts.get("sentence", "")))
        if exit_code not in DELIBERATE:
            crashed = f"The engine crashed with exit status {exit_code}"
            return Ending(exit_code, f"{crashed}: {error}" if error else f"{crashed}.", facts)
        error = error or endings.last_line(directories.log_tail(self.run.directory, self.run.fence))
        return Ending(exit_code, error, facts)

    def _killed(self, by: signal.Signals) -> Ending:
        if self.stopping_since:
            # The signal that we sent came before the engine could listen to it, or it did not listen in time.
            return Ending(exits.Interrupted.code, "The engine was stopped on request.", {"kind": "interrupted"})
        if by == signal.SIGKILL and self.memory_kills.has_risen():
            return memory_kills.ending(self.run)
        facts = {"kind": SIGNALS.get(by, "killed_by_fault"), "numbers": {"signal": by.name}}
        return Ending(-by, f"The engine was killed by {by.name}.", facts)
