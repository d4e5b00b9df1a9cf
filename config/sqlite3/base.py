"""Django's SQLite backend, with a fair wait for the one writer's turn that blocks nobody else.

SQLite lets the process that checks at the right moment write next. On a busy machine that is the one that has just
written, since the others have to wake up first: one of them may find the database locked for the whole timeout, and a
person sees "database is locked". Here transactions queue up at a turnstile, a file lock that a transaction holds while
it waits for its turn: the process that has just written finds the next one already waiting.

SQLite's own wait also holds the lock of its connection. A thread that writes, and whose garbage collector comes across
a forgotten cursor of a connection that waits, would wait for that lock in turn: both stand still until the timeout. So
all waiting is done here, between tries. Left out on purpose: a turnstile for single statements outside a transaction,
and waiting in strict order of arrival.
"""

from __future__ import annotations

import fcntl
import random
import sqlite3
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Self

from django.db.backends.sqlite3 import base

PAUSE_S = (0.001, 0.004)  # of random length, so that two who wait do not keep step
PASSES = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_RECOVERY}  # what waiting can help against


Identity = tuple[int, int]  # of a file: its device, and its number there


class Cursor(base.SQLiteCursorWrapper):
    """A cursor that waits `timeout_s` for its turn, trying again and again."""

    def __init__(self, connection: sqlite3.Connection, *, timeout_s: float) -> None:
        super().__init__(connection)
        self.timeout_s = timeout_s

    def execute(self, query: str, params: Any = None) -> Self:
        self._patiently(partial(super().execute, query, params))
        return self

    def executemany(self, query: str, param_list: Iterable[Any]) -> Self:
        # A list: what an iterator has given to a try that failed would be missing in the next.
        self._patiently(partial(super().executemany, query, list(param_list)))
        return self

    def _patiently(self, attempt: Callable[[], object]) -> None:
        give_up_at = time.monotonic() + self.timeout_s
        while True:
            try:
                attempt()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode not in PASSES or time.monotonic() > give_up_at:
                    raise
            else:
                return
            _pause()


class DatabaseWrapper(base.DatabaseWrapper):
    _opened: Identity | None = None

    @property
    def timeout_s(self) -> float:
        """How long a statement waits for its turn."""
        return float(self.settings_dict["OPTIONS"].get("timeout", 5.0))

    def get_new_connection(self, conn_params: dict[str, Any]) -> sqlite3.Connection:
        connection: sqlite3.Connection = super().get_new_connection(conn_params)
        connection.execute("PRAGMA busy_timeout = 0")
        self._opened = _identity(conn_params["database"])
        return connection

    def is_usable(self) -> bool:
        """Whether the file is still the one that was opened: somebody may have put a backup in its place.

        A connection that is kept would go on writing to the file that nobody can see any more.
        """
        return self._opened == _identity(self.settings_dict["NAME"])

    def create_cursor(self, name: str | None = None) -> sqlite3.Cursor:
        cursor: sqlite3.Cursor = self.connection.cursor(factory=partial(Cursor, timeout_s=self.timeout_s))
        return cursor

    def _start_transaction_under_autocommit(self) -> None:
        # Opened each time, so that threads exclude one another, too.
        with Path(f"{self.settings_dict['NAME']}-turnstile").open("a") as turnstile:
            _pass(turnstile.fileno(), time.monotonic() + self.timeout_s)
            try:
                super()._start_transaction_under_autocommit()  # type: ignore[misc]  # the stubs leave it out
            finally:
                fcntl.flock(turnstile, fcntl.LOCK_UN)  # closing would leave it to a process forked meanwhile


def _identity(path: Path | str) -> Identity | None:
    """None where there is no such file, as for a database in memory."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _pass(turnstile: int, give_up_at: float) -> None:
    """Hold the turnstile; after `give_up_at`, go on without it and let SQLite decide."""
    while time.monotonic() < give_up_at:
        try:
            fcntl.flock(turnstile, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _pause()
        else:
            return


def _pause() -> None:
    time.sleep(random.uniform(*PAUSE_S))
