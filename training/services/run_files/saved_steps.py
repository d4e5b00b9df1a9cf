"""Checkpoints as people see them: which there are, and whether their files are still as they were written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from training.models import Run
from training.rlhf.run import manifest
from training.services.run_files import directories, integrity
from training.services.run_files.reader import RunFiles


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
    return sorted(
        (_saved_step(run, path) for path in RunFiles(run).checkpoints), key=lambda saved: saved.step, reverse=True
    )


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
        return datetime.fromtimestamp(directories.read_json(path / manifest.MANIFEST)["time"], UTC)
    except (OSError, ValueError, KeyError, TypeError):  # it may be damaged
        return None
