"""Checkpoints as people see them: which there are, and whether their files are still as they were written."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from training.models import Run
from training.rlhf.run import manifest
from training.services.run_files import integrity


@dataclass(frozen=True, kw_only=True)
class SavedStep:
    """One checkpoint of a run."""

    step: int
    path: Path
    saved_at: datetime | None
    size: int  # bytes
    is_whole: bool | None  # None: nobody has read its files yet

    @property
    def attempt(self) -> Path:
        """The folder of the attempt that saved it."""
        return self.path.parents[1]


def find(run: Run) -> list[SavedStep]:
    """The checkpoints of `run` in all its attempts, the furthest first."""
    return sorted((_saved_step(run, path) for path in paths(run)), key=lambda saved: saved.step, reverse=True)


def paths(run: Run) -> list[Path]:
    """The folders of the checkpoints of `run`."""
    return list(run.directory.glob("attempts/*/checkpoints/step-*[0-9]"))


def furthest(saved: Iterable[SavedStep]) -> SavedStep | None:
    """Where the engine would go on, as far as anybody knows: it reads the files itself, and passes over what is bad."""
    return next((one for one in saved if one.is_whole is not False), None)


def _saved_step(run: Run, path: Path) -> SavedStep:
    files = [file for file in path.iterdir() if file.is_file()]
    return SavedStep(
        step=int(path.name.removeprefix("step-")),
        path=path,
        saved_at=_saved_at(path),
        size=sum(file.stat().st_size for file in files),
        is_whole=integrity.is_whole(run, path),
    )


def _saved_at(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(json.loads((path / manifest.MANIFEST).read_text("utf-8"))["time"], UTC)
    except (OSError, ValueError, KeyError, TypeError):
        return None
