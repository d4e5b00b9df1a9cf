"""Integrity: whether the files of a checkpoint or a model are still as they were, cached until one of them changes.

Small directories are read while a page waits. The bytes of a large model take minutes: a worker reads them, and until
it has, nobody knows. The engine reads everything once more before it goes on from it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from django.core.cache import cache

from training import doorbell
from training.models import Run
from training.rlhf.run import manifest

TASK = "training.read_files.v1"
READ_AT_ONCE = 500_000_000  # bytes: a second's work
CACHED_S = 24 * 3600
ASKED_AGAIN_S = 300  # a message may be lost; reading takes its time


def is_whole(run: Run, checkpoint: Path) -> bool | None:
    """Whether a checkpoint of `run` verifies; None while nobody has read it."""
    is_whole: bool | None = _cached(run, checkpoint, manifest.verifies)
    return is_whole


def model_sha256(run: Run, directory: Path) -> str | None:
    """The hash that a model which `run` starts from has now, empty where there is none; None while nobody knows."""
    if not directory.is_dir():
        return ""
    sha256: str | None = _cached(run, directory, manifest.manifest_sha256)
    return sha256


def read(checkpoints: Iterable[Path], models: Iterable[Path]) -> None:
    """Read everything that nobody has read since it changed; for a worker."""
    for directory in checkpoints:
        _read(directory, manifest.verifies)
    for directory in filter(Path.is_dir, models):
        _read(directory, manifest.manifest_sha256)


def _cached(run: Run, directory: Path, check: Callable[[Path], Any]) -> Any:
    """What `check` returns for a directory; None where it is large, and a worker has been asked."""
    if sum(file.stat().st_size for file in _files(directory)) <= READ_AT_ONCE:
        return _read(directory, check)
    known = cache.get(_key(directory))
    if known is None and cache.add(f"reading-{run.pk}", True, ASKED_AGAIN_S):
        doorbell.ask(TASK, run.pk)
    return known


def _read(directory: Path, check: Callable[[Path], Any]) -> Any:
    return cache.get_or_set(_key(directory), lambda: check(directory), CACHED_S)


def _key(directory: Path) -> str:
    files = sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in _files(directory))
    return "integrity-" + hashlib.sha256(f"{directory} {files}".encode()).hexdigest()


def _files(directory: Path) -> list[Path]:
    return [file for file in directory.iterdir() if file.is_file()]
