"""Checks of the database: it answers, it is up to date, it keeps what was committed, and it is the one of DATA_DIR."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseFailure
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from training.services.office.doctor.findings import LARGEST_SKEW_S, Check, Finding, Level
from training.services.registry import pruning

OLDEST_POSTGRESQL = 14  # that Django supports
DATABASE = "database"


def answers() -> Iterator[Finding]:
    try:
        _one("SELECT 1")
    except DatabaseFailure as error:
        fault = _("The database is not responding: %(error)s.") % {"error": str(error).strip()}
        yield Finding(DATABASE, fault, _("Start it, or correct DATABASE_URL."))


def migrations() -> Iterator[Finding]:
    executor = MigrationExecutor(connection)
    if pending := executor.migration_plan(executor.loader.graph.leaf_nodes()):
        fault = ngettext(
            "%(number)d migration is not applied: %(name)s.",
            "%(number)d migrations are not applied, starting with %(name)s.",
            len(pending),
        )
        names = {"number": len(pending), "name": pending[0][0]}
        yield Finding("migrations", fault % names, _("Run “manage.py migrate”. “make run” does this automatically."))


def cache_table() -> Iterator[Finding]:
    name = settings.CACHES["default"]["LOCATION"]
    if name not in connection.introspection.table_names():
        fault = _("The table for login throttling is missing, so no one can sign in.")
        yield Finding(DATABASE, fault, _("Run “manage.py createcachetable”. “make run” does this automatically."))


def sqlite() -> Iterator[Finding]:
    if connection.vendor != "sqlite":
        return
    if (mode := _one("PRAGMA journal_mode")) != "wal":
        fault = _("SQLite's journal mode is “%(mode)s”, so readers and writers block each other.") % {"mode": mode}
        yield Finding(DATABASE, fault, _("Put DATA_DIR on a local disk. Network file systems do not support WAL."))
    if _one("PRAGMA synchronous") != 2:
        fault = _("SQLite does not wait for the disk, so a power failure can lose labels that were reported as saved.")
        yield Finding(DATABASE, fault, _("Set synchronous=FULL again in SQLITE_OPTIONS of config/settings.py."))
    if _one("PRAGMA foreign_keys") != 1:
        fault = _("SQLite does not enforce foreign keys, so rows can refer to rows that do not exist.")
        yield Finding(DATABASE, fault, _("Use a SQLite build with foreign keys, and connect through Django."))


def postgresql() -> Iterator[Finding]:
    if connection.vendor != "postgresql":
        return
    version = int(_one("SHOW server_version_num")) // 10_000
    if version < OLDEST_POSTGRESQL:
        fault = _("PostgreSQL %(version)d is too old.") % {"version": version}
        yield Finding(DATABASE, fault, _("Upgrade it to %(oldest)d or newer.") % {"oldest": OLDEST_POSTGRESQL})
    for name in ("fsync", "full_page_writes", "synchronous_commit"):
        if (value := _one(f"SHOW {name}")) == "off":
            fault = _("PostgreSQL runs with %(name)s = %(value)s, so a power failure can lose labels.")
            remedy = _("Turn it on in postgresql.conf and reload the server.")
            yield Finding(DATABASE, fault % {"name": name, "value": value}, remedy)


def clock() -> Iterator[Finding]:
    skew = abs((_database_time() - datetime.now(UTC)).total_seconds())
    if skew > LARGEST_SKEW_S:
        fault = _("The clocks of the database and of this host differ by %(seconds)d s.") % {"seconds": round(skew)}
        yield Finding(
            "clock", fault, _("Synchronise both with a time server, for example with chrony or systemd-timesyncd.")
        )


def unknown_directories() -> Iterator[Finding]:
    if unknown := pruning.find_unknown():
        fault = _("This database does not know everything in DATA_DIR: %(what)s, %(size)s.") % {
            "what": unknown.what,
            "size": filesizeformat(unknown.size),
        }
        remedy = _(
            "If DATABASE_URL was changed or an older backup was restored, they belong to the other database, which "
            "still needs them. If not, a crash left them, and “manage.py prune --unknown --yes” deletes them."
        )
        yield Finding(DATABASE, fault, remedy, Level.NOTE)


def _database_time() -> datetime:
    """Now, by the clock that leases run by."""
    sqlite = connection.vendor == "sqlite"
    now = _one(
        "SELECT (julianday('now') - 2440587.5) * 86400" if sqlite else "SELECT extract(epoch from clock_timestamp())"
    )
    return datetime.fromtimestamp(float(now), UTC)


def _one(statement: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        row = cursor.fetchone()
    return row[0] if row else None


CHECKS: tuple[Check, ...] = (migrations, cache_table, sqlite, postgresql, clock, unknown_directories)
