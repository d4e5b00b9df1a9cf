"""The wait for SQLite's one writer. What happens among many is tests/annotate/test_race.py."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from threading import Timer
from time import monotonic

import pytest
from django.db import connection
from django.db.utils import OperationalError

from config.sqlite3.base import DatabaseWrapper

pytestmark = pytest.mark.django_db


@pytest.fixture
def other(tmp_path: Path):
    """Somebody else who is writing."""
    writer = sqlite3.connect(tmp_path / "db.sqlite3", isolation_level=None, check_same_thread=False)
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("BEGIN IMMEDIATE")
    yield writer
    writer.close()


def connect(folder: Path, timeout_s: float) -> DatabaseWrapper:
    options = {"transaction_mode": "IMMEDIATE", "timeout": timeout_s}
    wrapper = DatabaseWrapper(connection.settings_dict | {"NAME": str(folder / "db.sqlite3"), "OPTIONS": options})
    wrapper.connect()
    return wrapper


def test_a_writer_waits_for_its_turn(tmp_path, other):
    wrapper = connect(tmp_path, timeout_s=10)
    Timer(0.2, lambda: other.execute("COMMIT")).start()
    wrapper.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)
    assert wrapper.connection.in_transaction
    wrapper.close()


def test_a_writer_waits_no_longer_than_its_timeout(tmp_path, other):
    wrapper = connect(tmp_path, timeout_s=0.2)
    started = monotonic()
    with pytest.raises(OperationalError, match="locked"):
        wrapper.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)
    assert 0.2 <= monotonic() - started < 5
    (timeout_ms,) = wrapper.connection.execute("PRAGMA busy_timeout").fetchone()
    assert timeout_ms == 200
    wrapper.close()
