"""Django's SQLite backend, with a fair wait for the one writer's turn.

SQLite lets whoever looks at the right moment write next. On a busy machine that is the process that has just written,
since the others have to wake up first: somebody finds the door closed for the whole timeout, and a person sees
"database is locked". Here writers queue up at a turnstile, a file lock held from the wait for the turn until it is
there: who has just written finds the next one already waiting. Left out on purpose: single statements outside a
transaction, which keep SQLite's own wait, and waiting in strict order of arrival.
"""

from __future__ import annotations

import fcntl
import random
import time
from collections.abc import Callable
from pathlib import Path

from django.db.backends.sqlite3 import base
from django.db.utils import OperationalError

PAUSE_S = (0.001, 0.004)  # of random length, so that two who wait do not keep step


class DatabaseWrapper(base.DatabaseWrapper):
    def _start_transaction_under_autocommit(self) -> None:
        timeout_s = float(self.settings_dict["OPTIONS"].get("timeout", 5.0))
        give_up_at = time.monotonic() + timeout_s
        # Opened anew each time: a descriptor that a fork has copied would share its lock.
        with Path(f"{self.settings_dict['NAME']}-turnstile").open("a") as turnstile:
            _until(give_up_at, lambda: _locked(turnstile.fileno()))
            self.connection.execute("PRAGMA busy_timeout = 0")
            try:
                if not _until(give_up_at, self._began):
                    raise OperationalError(f"database is locked: it was not our turn for {timeout_s} s")
            finally:
                self.connection.execute(f"PRAGMA busy_timeout = {round(timeout_s * 1000)}")

    def _began(self) -> bool:
        try:
            super()._start_transaction_under_autocommit()  # type: ignore[misc]  # the stubs leave it out
        except OperationalError as error:
            if "locked" not in str(error):
                raise
            return False
        return True


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _until(give_up_at: float, done: Callable[[], bool]) -> bool:
    """Try until it is `done` or the time is over; whether it is done."""
    while not (is_done := done()) and time.monotonic() < give_up_at:
        time.sleep(random.uniform(*PAUSE_S))
    return is_done
