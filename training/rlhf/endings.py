"""ending.json: why an attempt, or an examination, did not end well. Its `kind` is looked up by whoever started it.

Imports no torch, because the supervisor reads these files.
"""

import errno
import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import memory
from .exits import EngineExit
from .json_files import write_json

FILE = "ending.json"
DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
LONGEST = 2_000  # characters of a sentence that another program wrote

# torch has exceptions of its own for some device errors; the others are RuntimeErrors that only their message tells.
DEVICE_ERRORS = frozenset({"AcceleratorError", "DistBackendError"})
DEVICE_MESSAGES = re.compile(r"CUDA error|CUDA driver|HIP error|NCCL|cuDNN|CUDNN_STATUS|CUBLAS_STATUS")


def describe(error: Exception) -> dict[str, Any]:
    """An exception as the content of ending.json: an EngineExit describes itself, a crash is named by its type."""
    if isinstance(error, EngineExit):
        return error.as_json()
    name = type(error).__name__
    sentence = f"{name}: {error}" if str(error) else name
    return {"kind": kind_of_crash(error), "numbers": {"type": name}, "sentence": sentence[:LONGEST]}


def kind_of_crash(error: Exception) -> str:
    """The kind of an exception that was not raised on purpose, by its type or else by its message."""
    if memory.ran_out(error):
        return "memory"
    if is_disk_full(error):
        return "disk"
    if isinstance(error, ImportError):
        return "install"
    is_device_error = type(error).__name__ in DEVICE_ERRORS or DEVICE_MESSAGES.search(str(error))
    return "device" if isinstance(error, RuntimeError) and is_device_error else "crash"


def is_disk_full(error: Exception) -> bool:
    """Whether a write failed because the disk, or the quota, is full."""
    return isinstance(error, OSError) and error.errno in DISK_FULL_ERRNOS


def write(folder: Path, ending: dict[str, Any]) -> None:
    """Write `ending` into `folder`, or nothing where the disk is too full even for that."""
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / FILE, ending, ensure_ascii=False, default=str)


def claim(folder: Path) -> bool:
    """Whether this process may write the ending in `folder`; of several ranks, the first that asks.

    What makes the others end is only that the first has.
    """
    rank = own_rank()
    if rank is None:
        return True
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / FILE).open("x", encoding="utf-8") as ending:
            json.dump({"rank": rank}, ending)
    return _content(folder).get("rank") == rank


def own_rank() -> int | None:
    """The number that a launcher of several processes gave to this one; None where there was no launcher."""
    rank = os.environ.get("RANK")
    return None if rank is None else int(rank)


def last_line(output: str) -> str:
    """The last line that an engine printed, without the progress bar that may stand before it."""
    return output.strip().rpartition("\n")[2].rpartition("\r")[2][-LONGEST:]


def read(folder: Path) -> dict[str, Any]:
    """The ending in a folder; empty where there is none, or not one that `write` has written."""
    ending = _content(folder)
    return ending if isinstance(ending.get("kind"), str) else {}


def _content(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
