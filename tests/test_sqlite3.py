"""The wait for SQLite's one writer. What happens among many is tests/annotate/test_race.py."""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
from pathlib import Path
from threading import Thread, Timer
from time import monotonic, sleep

import pytest
from django.conf import settings
from django.db import connection
from django.db.utils import OperationalError

from config.sqlite3.base import DatabaseWrapper
from training.services.running import reconciler

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
    own = {"NAME": str(folder / "db.sqlite3"), "OPTIONS": options}
    wrapper = DatabaseWrapper(connection.settings_dict | own | settings.KEPT_CONNECTION)
    wrapper.inc_thread_sharing()
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
    wrapper.close()


def test_a_connection_that_is_kept_notices_that_a_backup_was_put_in_the_place_of_its_file(tmp_path):
    wrapper = connect(tmp_path, timeout_s=1)
    with wrapper.cursor() as cursor:
        cursor.execute("CREATE TABLE old (name TEXT)")
    wrapper.close_if_unusable_or_obsolete()
    kept = wrapper.connection
    wrapper.ensure_connection()
    assert wrapper.connection is kept

    backup = sqlite3.connect(tmp_path / "backup")
    backup.execute("CREATE TABLE new (name TEXT)")
    backup.close()
    (tmp_path / "backup").rename(tmp_path / "db.sqlite3")
    wrapper.close_if_unusable_or_obsolete()  # as at the start of a request
    with wrapper.cursor() as cursor:
        assert cursor.execute("SELECT name FROM sqlite_schema").fetchall() == [("new",)]
    wrapper.close()


def test_after_a_sweep_the_file_holds_all_although_a_connection_is_kept(tmp_path, monkeypatch):
    wrapper, page_thread = connect(tmp_path, timeout_s=1), connect(tmp_path, timeout_s=1)
    with page_thread.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("CREATE TABLE things (name TEXT)")
    log = tmp_path / "db.sqlite3-wal"
    assert log.stat().st_size
    monkeypatch.setattr(reconciler, "connection", wrapper)
    reconciler.sweep()
    assert not log.stat().st_size
    wrapper.close()
    page_thread.close()


def test_a_single_statement_waits_for_its_turn_too(tmp_path, other):
    wrapper = connect(tmp_path, timeout_s=10)
    Timer(0.2, lambda: other.execute("COMMIT")).start()
    with wrapper.cursor() as cursor:
        cursor.execute("CREATE TABLE things (name TEXT)")
        cursor.executemany("INSERT INTO things VALUES (%s)", [["a"], ["b"]])
        assert cursor.execute("SELECT count(*) FROM things").fetchone() == (2,)
    wrapper.close()


def test_who_waits_keeps_nobody_from_clearing_up_behind_him(tmp_path, other):
    """The garbage collector of the thread that writes may have to: see config/sqlite3/base.py."""
    wrapper = connect(tmp_path, timeout_s=5)
    forgotten = wrapper.connection.execute("SELECT 1 UNION SELECT 2")
    waiting = Thread(target=lambda: wrapper.create_cursor().execute("CREATE TABLE things (name TEXT)"))
    waiting.start()
    sleep(0.2)
    forgotten.close()
    other.execute("COMMIT")
    waiting.join()
    assert wrapper.introspection.table_names() == ["things"]  # it was not too late
    wrapper.close()


def test_a_process_forked_meanwhile_does_not_keep_the_turnstile(tmp_path, other):
    wrapper = connect(tmp_path, timeout_s=20)
    beginning = Thread(target=wrapper._start_transaction_under_autocommit)
    beginning.start()
    sleep(0.2)
    if not (child := os.fork()):
        signal.pause()
    try:
        other.execute("COMMIT")
        beginning.join()
        with (tmp_path / "db.sqlite3-turnstile").open("a") as turnstile:
            fcntl.flock(turnstile, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    wrapper.close()
