"""Fixtures that every part of the suite may use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db.backends.base.operations import BaseDatabaseOperations

from annotate.models import Member, Project, Role
from tests.audit_triggers import triggers_off
from tests.factories import make_member, make_project


@pytest.fixture
def project(db: None) -> Project:
    return make_project()


@pytest.fixture
def annotator(project: Project) -> Member:
    return make_member(project)


@pytest.fixture
def reviewer(project: Project) -> Member:
    return make_member(project, role=Role.REVIEWER)


@pytest.fixture
def admin(project: Project) -> Member:
    return make_member(project, role=Role.ADMIN)


@pytest.fixture(scope="session", autouse=True)
def _flushes_may_empty_the_audit() -> Iterator[None]:
    """Tests with transactions of their own end with a flush; the database refuses to delete audit rows otherwise."""
    flush: Callable[..., Any] = BaseDatabaseOperations.execute_sql_flush

    def flush_without_triggers(operations: BaseDatabaseOperations, statements: list[str]) -> None:
        with triggers_off(operations.connection):
            flush(operations, statements)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseDatabaseOperations, "execute_sql_flush", flush_without_triggers)
        yield
