"""Engines that the kernel kills because memory ran out: how that is recognised, and what follows.

Linux counts such kills for each control group (cgroup v2). Where it does not, the reason of a kill is not known.
What follows is what the engine itself does where an allocation fails: half the micro-batch once, then advice.
"""

from __future__ import annotations

import signal
from pathlib import Path

from training.models import Run
from training.rlhf import exits, memory
from training.rlhf.config import load_config
from training.rlhf.run.recovery_log import Recovery, RecoveryLog
from training.services.run_files import directories
from training.services.running.runs import Ending

GROUPS = Path("/sys/fs/cgroup")
OWN_GROUP = Path("/proc/self/cgroup")


class Counter:
    """The kernel's count of processes killed for memory, from now on. `events`: a control group's memory.events."""

    def __init__(self, events: Path) -> None:
        self._events = events
        self._before = _count(events)

    def has_risen(self) -> bool:
        """Whether a process was killed since; False where the kernel does not count."""
        now = _count(self._events)
        return self._before is not None and now is not None and now > self._before


def own_events() -> Path:
    """Where the kernel counts for this process and the engines that it starts."""
    try:
        lines = OWN_GROUP.read_text("utf-8").splitlines()
    except OSError:  # no Linux
        lines = []
    group = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "/")
    return GROUPS / group.strip("/") / "memory.events"


def ending(run: Run) -> Ending:
    """How the attempt of `run` has ended that was killed so; records that the next one has half the micro-batch."""
    cfg = memory.halved(load_config(run.directory / "config.json"))
    recovery_log = RecoveryLog(directories.attempt(run.directory, run.fence))
    if recovery_log.has("out_of_memory"):
        facts = {"kind": "memory", "field": "batch_tokens", "numbers": {"batch_tokens": cfg.batch_tokens}}
        return Ending(exits.InvalidInput.code, memory.advice(cfg), facts)
    text = (
        f"After step {run.step} the kernel killed the engine because it ran out of memory, so the next attempt"
        f" continues with half as many tokens per batch (batch_tokens {cfg.batch_tokens})."
    )
    recovery_log.add(Recovery("out_of_memory", run.step, text))
    error = "The engine was killed by SIGKILL: the machine ran out of memory."
    return Ending(-signal.SIGKILL, error, {"kind": "memory"})


def _count(events: Path) -> int | None:
    try:
        lines = events.read_text("utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
