"""Checkpoints as people see them: which there are, and whether their files are still as they were written.

Reading all bytes of a large model takes a while, so a verdict is remembered until a file changes its size or time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.cache import cache

from training.models import Run
from training.rlhf import manifest

REMEMBERED_S = 24 * 3600


@dataclass(frozen=True, kw_only=True)
class SavedStep:
    """One checkpoint of a run."""

    step: int
    path: Path
    saved_at: datetime | None
    size: int  # bytes
    is_whole: bool

    @property
    def attempt(self) -> Path:
        """The folder of the attempt that saved it."""
        return self.path.parents[1]


def of(run: Run) -> list[SavedStep]:
    """The checkpoints of `run` in all its attempts, the furthest first."""
    paths = run.directory.glob("attempts/*/checkpoints/step-*[0-9]")
    return sorted((_saved_step(path) for path in paths), key=lambda saved: saved.step, reverse=True)


def newest_whole(run: Run) -> SavedStep | None:
    """Where the engine would go on."""
    return next((saved for saved in of(run) if saved.is_whole), None)


def model_sha256(directory: Path) -> str:
    """The hash of a model directory as it is now; empty where there is none."""
    return str(_remembered(directory, "model", manifest.manifest_sha256)) if directory.is_dir() else ""


def _saved_step(path: Path) -> SavedStep:
    files = [file for file in path.iterdir() if file.is_file()]
    return SavedStep(
        step=int(path.name.removeprefix("step-")),
        path=path,
        saved_at=_saved_at(path),
        size=sum(file.stat().st_size for file in files),
        is_whole=bool(_remembered(path, "checkpoint", manifest.verifies)),
    )


def _saved_at(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(json.loads((path / manifest.MANIFEST).read_text("utf-8"))["time"], UTC)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remembered(directory: Path, question: str, answer: Callable[[Path], Any]) -> Any:
    looks = sorted(
        (file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in directory.iterdir() if file.is_file()
    )
    key = hashlib.sha256(f"{question} {directory} {looks}".encode()).hexdigest()
    return cache.get_or_set(f"hashed-{key}", lambda: answer(directory), REMEMBERED_S)
