"""Run directories from the platform's side: written before a run is queued, read while it runs and afterwards.

What the files mean is written in training/rlhf/run/directory.py. Only the engine writes below attempts/, apart from the
log, to which the supervisor redirects the engine's output.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import stat
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from django.conf import settings

from training.models import LostRace
from training.rlhf.config import RunConfig, to_json
from training.rlhf.run.manifest import MANIFEST

Record = dict[str, Any]

CHECKPOINTS = "checkpoints/step-*[0-9]"  # in an attempt, without drafts and damaged ones
DAMAGED_CHECKPOINTS = "checkpoints/*.damaged"  # whose hash was wrong: the engine sets them aside
ENVIRONMENT = "environment.json"
LOG = "engine.log"
LOG_LINES = 40  # at the end, which pages and errors show
LOG_TAIL = 64_000  # bytes that are read for them


def write(
    directory: Path, config: RunConfig, *, data: Mapping[str, Path], records: Mapping[str, Iterable[Record]]
) -> None:
    """Make a run directory: `config`, and the data by name, from files or from records."""
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


def attempts(directory: Path) -> list[Path]:
    """The folders of the attempts, the oldest first; each is named after its fence."""
    folders = [folder for folder in (directory / "attempts").glob("*") if folder.name.isdecimal()]
    return sorted(folders, key=lambda folder: int(folder.name))


def find(directory: Path, pattern: str) -> list[Path]:
    """What matches `pattern` in the attempts, the oldest attempt first."""
    return [path for attempt in attempts(directory) for path in sorted(attempt.glob(pattern))]


def samples(directory: Path) -> dict[int, Path]:
    """The files of samples by step; where an attempt did a step again, its file counts."""
    found = {int(path.stem.removeprefix("step-")): path for path in find(directory, "samples/step-*.jsonl")}
    return dict(sorted(found.items()))


def read_json(path: Path) -> Any:
    """What is in a file that another process may be replacing; None where there is none, or it is no JSON."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None


def write_fence(directory: Path, fence: int) -> None:
    """From now on only the attempt under `fence` may write. Raises LostRace where a later one has begun already."""
    current, draft = directory / "fence", directory / f".fence-{fence}"
    with (directory / ".fence-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if current.exists() and int(current.read_text("utf-8")) > fence:
            raise LostRace(f"attempt {fence} is too late: another attempt owns {directory.name}")
        draft.write_text(str(fence), "utf-8")
        draft.replace(current)


def log_tail(directory: Path, fence: int) -> str:
    """The last LOG_LINES that the engine wrote in the attempt under `fence`."""
    try:
        with (attempt(directory, fence) / LOG).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL))
            text = file.read().decode("utf-8", "replace").replace("\x00", "").strip()
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-LOG_LINES:])


def has_new_checkpoint(directory: Path, fence: int) -> bool:
    """Whether the attempt under `fence` came further than every attempt before it."""
    complete = f"{CHECKPOINTS}/{MANIFEST}"
    furthest = {
        folder.name: max((path.parent.name for path in folder.glob(complete)), default="")
        for folder in attempts(directory)
    }
    reached = furthest.pop(str(fence), "")
    return reached > max(furthest.values(), default="")


def discard_checkpoints(directory: Path) -> None:
    """Free the disk of what only a resume would have needed."""
    for path in find(directory, "checkpoints"):
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
    """The status of each file below `path`, once for each of its names."""
    for file in path.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # something else is writing there
            about = file.lstat()
            if stat.S_ISREG(about.st_mode):
                yield about


def is_leftover(path: Path) -> bool:
    """Whether `path` is there and too old to be something that is just being made."""
    try:
        return bool(time.time() - path.stat().st_mtime >= settings.LEFTOVERS_AFTER_S)
    except FileNotFoundError:  # it was completed or removed a moment ago
        return False


def discard_drafts(directory: Path) -> None:
    """Free the disk of what attempts that are over had only begun to write."""
    for pattern in (".*.draft", "checkpoints/.*.draft"):
        for path in find(directory, pattern):
            shutil.rmtree(path, ignore_errors=True)


def link_or_copy(source: Path, target: Path) -> None:
    """The same file under a second name; its copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
