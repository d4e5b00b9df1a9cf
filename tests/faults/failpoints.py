"""Arms failpoints: the next process that reaches a point is killed or held up there, or finds the disk full."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path

from django.db import connection

from tests.faults.processes import wait_until


class Failpoints:
    """The folder that ROUNDTABLE_FAILPOINTS names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._numbers = itertools.count(1)

    def arm(self, point: str, action: str, where: object = "") -> Path:
        """The next one who passes `point` while working on something like `where` carries out `action`."""
        armed = self.folder / f"{point}.{next(self._numbers):06d}"
        draft = self.folder / f".{armed.name}"
        draft.write_text(f"{action} {where}")
        return draft.rename(armed)

    def wait_for(self, armed: Path, *, within: float = 60) -> None:
        """Until somebody has passed the point."""
        wait_until(lambda: not armed.exists(), within=within)

    def wait_for_pause(self, armed: Path, *, within: float = 60) -> None:
        wait_until(self._paused(armed).exists, within=within)

    def resume(self, armed: Path) -> None:
        self._paused(armed).unlink()

    def resume_after(self, armed: Path, seconds: float) -> None:
        time.sleep(seconds)
        self.resume(armed)

    def _paused(self, armed: Path) -> Path:
        return armed.with_name(f"{armed.name}.paused")


def meanwhile(*actions: Callable[[], object]) -> threading.Thread:
    """Do these things one after the other while a run is supervised."""

    def do() -> None:
        try:
            for action in actions:
                action()
        finally:
            connection.close()

    thread = threading.Thread(target=do)
    thread.start()
    return thread
