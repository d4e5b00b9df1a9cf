"""Run directories from the platform's side: written before a run is queued, read while it runs and afterwards.

What the files mean is said in training/rlhf/run/directory.py; the engine is the only one that writes below attempts/,
apart from the log, into which the supervisor leads the engine's output.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from training.models import LostRace
from training.rlhf.config import RunConfig, to_json
from training.rlhf.run.manifest import MANIFEST

Record = dict[str, Any]

LOG = "engine.log"
LOG_LINES = 40  # at the end, which pages and errors show
LOG_TAIL = 64_000  # bytes that are read for them


def write(
    directory: Path, config: RunConfig, *, data: Mapping[str, Path], records: Mapping[str, Iterable[Record]]
) -> None:
    """Make a run directory: `config`, and beside it the data by name, from files or from records."""
    (directory / "data").mkdir(parents=True)
    for name, source in data.items():
        link_or_copy(source, directory / "data" / f"{name}.jsonl")
    for name, rows in records.items():
        write_records(directory / "data" / f"{name}.jsonl", rows)
    (directory / "config.json").write_text(json.dumps(to_json(config), indent=1), "utf-8")


def write_records(path: Path, records: Iterable[Record]) -> None:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), "utf-8")


def attempt(directory: Path, fence: int) -> Path:
    """Where the attempt under `fence` writes."""
    return directory / "attempts" / str(fence)


def write_fence(directory: Path, fence: int) -> None:
    """From now on only the attempt under `fence` may write. Raises LostRace where a later one has begun already."""
    current, draft = directory / "fence", directory / f".fence-{fence}"
    with (directory / ".fence-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if current.exists() and int(current.read_text("utf-8")) > fence:
            raise LostRace(f"attempt {fence} comes too late: another one works in {directory.name}")
        draft.write_text(str(fence), "utf-8")
        draft.replace(current)


def log_tail(directory: Path, fence: int) -> str:
    """The last LOG_LINES of what the engine said in the attempt under `fence`."""
    try:
        with (attempt(directory, fence) / LOG).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL))
            text = file.read().decode("utf-8", "replace").replace("\x00", "").strip()
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-LOG_LINES:])


def has_new_checkpoint(directory: Path, fence: int) -> bool:
    """Whether the attempt under `fence` came further than every attempt before it."""
    steps: dict[bool, list[str]] = {True: [], False: []}
    for path in directory.glob(f"attempts/*/checkpoints/step-*[0-9]/{MANIFEST}"):
        steps[path.parents[2].name == str(fence)].append(path.parent.name)
    return max(steps[True], default="") > max(steps[False], default="")


def discard_checkpoints(directory: Path) -> None:
    """Free the room of what only a resume would have needed."""
    for path in directory.glob("attempts/*/checkpoints"):
        shutil.rmtree(path, ignore_errors=True)


def size_of(*paths: Path) -> int:
    """The bytes that removing `paths` would free: what has a second name elsewhere counts for nothing."""
    names: Counter[tuple[int, int]] = Counter()
    files: dict[tuple[int, int], os.stat_result] = {}
    for path in paths:
        for about in files_below(path):
            names[about.st_dev, about.st_ino] += 1
            files[about.st_dev, about.st_ino] = about
    return sum(about.st_size for key, about in files.items() if names[key] >= about.st_nlink)


def files_below(path: Path) -> Iterator[os.stat_result]:
    """What the system tells of each file below `path`, under each of its names."""
    for file in path.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # somebody is at work there
            about = file.lstat()
            if stat.S_ISREG(about.st_mode):
                yield about


def discard_drafts(directory: Path) -> None:
    """Free the room of what attempts began to write that are over."""
    for pattern in ("attempts/*/.*.draft", "attempts/*/checkpoints/.*.draft"):
        for path in directory.glob(pattern):
            shutil.rmtree(path, ignore_errors=True)


def link_or_copy(source: Path, target: Path) -> None:
    """The same file under a second name; its copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
