"""Failpoints: named lines at which a fault test causes a crash. They do nothing unless ROUNDTABLE_FAILPOINTS is set.

The variable names a folder. A file in it called `<point>.<anything>` arms the point for one process. It holds
`<action> <where>`: the action is kill, disk_full, out_of_memory or pause, and `where` is a part of the subject that the
process works on. The process that removes the file carries out the action, so that a point fires once even if many pass
it; a pause lasts until `<point>.<anything>.paused` is removed.
"""

import errno
import os
import signal
import time
from pathlib import Path

VARIABLE = "ROUNDTABLE_FAILPOINTS"
POLL_S = 0.01


def reach(point: str, subject: object = "") -> None:
    """Pass `point` while working on `subject`. Raises OSError or MemoryError where it is armed so."""
    if folder := os.environ.get(VARIABLE):
        for armed in sorted(Path(folder).glob(f"{point}.[0-9]*")):
            action, _, where = _read(armed).partition(" ")
            if action and where in str(subject) and _take(armed):
                _carry_out(action, armed)


def _read(armed: Path) -> str:
    try:
        return "" if armed.suffix == ".paused" else armed.read_text("utf-8").strip()
    except FileNotFoundError:  # another process was faster
        return ""


def _take(armed: Path) -> bool:
    try:
        armed.unlink()
    except FileNotFoundError:
        return False
    return True


def _carry_out(action: str, armed: Path) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "disk_full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    elif action == "out_of_memory":
        raise MemoryError
    elif action == "pause":
        paused = armed.with_name(f"{armed.name}.paused")
        paused.touch()
        while paused.exists():
            time.sleep(POLL_S)
