"""ranks/: how far each process of an attempt has come, where there are several; a stall names the one that hangs.

Imports no torch, because the supervisor reads these files.
"""

import json
import os
import platform
import time
from pathlib import Path
from typing import NamedTuple

from ..json_files import write_json

FOLDER = "ranks"


class RankNote(NamedTuple):
    """The last sign of life of a rank."""

    rank: int
    host: str
    pid: int
    collectives: int  # that it has entered: each waits there until all others have entered it, too
    time: float  # seconds since 1970, when it entered the last one


def write(attempt: Path, rank: int, collectives: int) -> None:
    """Note that this process, which is `rank`, enters a collective."""
    folder = attempt / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    note = RankNote(rank, platform.node(), os.getpid(), collectives, time.time())
    write_json(folder / f"{rank}.json", note._asdict())


def read(attempt: Path) -> list[RankNote]:
    """The notes of all ranks, by rank; empty where an attempt has one process."""
    notes = [RankNote(**json.loads(path.read_text("utf-8"))) for path in (attempt / FOLDER).glob("*.json")]
    return sorted(notes)


def last(attempt: Path) -> RankNote | None:
    """The rank that all others wait for; None where several do not wait."""
    notes = read(attempt)
    behind = [note for note in notes if note.collectives < max(other.collectives for other in notes)]
    return behind[0] if len(behind) == 1 else None
