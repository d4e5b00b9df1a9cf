"""ending.json: how an attempt, or a look before a round, ended otherwise than well. Whoever started it looks `kind` up.

Imports no torch, because the supervisor reads what the engine left.
"""

import contextlib
import errno
import json
import re
from pathlib import Path
from typing import Any

from . import memory
from .exits import EngineExit

FILE = "ending.json"
DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)
LONGEST = 2_000  # characters of a sentence that somebody else wrote

# torch has exceptions of its own for a part of what can happen to a device; the rest says so in other people's words.
DEVICE_ERRORS = frozenset({"AcceleratorError", "DistBackendError"})
DEVICE_SAYS_SO = re.compile(r"CUDA error|CUDA driver|HIP error|NCCL|cuDNN|CUDNN_STATUS|CUBLAS_STATUS")


def describe(error: Exception) -> dict[str, Any]:
    """An exception as data: what was refused on purpose tells itself, a crash is told by its type."""
    if isinstance(error, EngineExit):
        return error.as_json()
    name = type(error).__name__
    sentence = f"{name}: {error}" if str(error) else name
    return {"kind": kind_of_crash(error), "numbers": {"type": name}, "sentence": sentence[:LONGEST]}


def kind_of_crash(error: Exception) -> str:
    """What an exception that nobody raised on purpose means, by its type before its words."""
    if memory.ran_out(error):
        return "memory"
    if fills_the_disk(error):
        return "disk"
    if isinstance(error, ImportError):
        return "install"
    is_of_a_device = type(error).__name__ in DEVICE_ERRORS or DEVICE_SAYS_SO.search(str(error))
    return "device" if isinstance(error, RuntimeError) and is_of_a_device else "crash"


def fills_the_disk(error: Exception) -> bool:
    """Whether there was no room to write."""
    return isinstance(error, OSError) and error.errno in DISK_IS_FULL


def leave(folder: Path, ending: dict[str, Any]) -> None:
    """Write `ending` into `folder`, whole or not at all; a disk that is full keeps even this from being said."""
    draft = folder / f".{FILE}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(ending, ensure_ascii=False, default=str), "utf-8")
        draft.replace(folder / FILE)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink()


def last_line(said: str) -> str:
    """The last that an engine said; a progress bar may stand before it on its line."""
    return said.strip().rpartition("\n")[2].rpartition("\r")[2][-LONGEST:]


def discard(folder: Path) -> None:
    """Forget how an earlier try in the same folder ended."""
    (folder / FILE).unlink(missing_ok=True)


def read(folder: Path) -> dict[str, Any]:
    """What was left there; empty where it is nothing that `leave` has written."""
    try:
        left = json.loads((folder / FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return left if isinstance(left, dict) and isinstance(left.get("kind"), str) else {}
