"""Fixtures that every part of the suite may use."""

from __future__ import annotations

import pytest

from annotate.models import Member, Project, Role
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
