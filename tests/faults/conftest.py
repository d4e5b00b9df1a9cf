"""Workers and a project for them, on the test's own database, broker and data directory."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection
from pytest_django import Settings

from annotate.models import Member, Project
from tests.factories import make_member, make_project
from tests.faults.failpoints import Failpoints
from tests.faults.invariants import Invariants
from tests.faults.processes import FAST, Processes, empty_broker
from tests.faults.toy_project import make_toy_project
from tests.training import machine
from tests.training.conftest import built_base
from training.rlhf import failpoints

__all__ = ["built_base"]


@pytest.fixture
def processes(transactional_db: None, tmp_path: Path) -> Iterator[Processes]:
    empty_broker()
    processes = Processes(tmp_path)
    yield processes
    processes.stop_all()
    empty_broker()


@pytest.fixture
def both_servers(transactional_db: None) -> None:
    if connection.vendor != "postgresql" or not settings.REDIS_URL:
        pytest.skip("needs DATABASE_URL and REDIS_URL of a PostgreSQL and a Redis server")


@pytest.fixture
def teaching(processes: Processes, built_base: Path) -> Iterator[Project]:
    """A project with a base model in the data directory that all processes share."""
    shutil.copytree(built_base, settings.BASE_MODELS_DIR / machine.BASE, dirs_exist_ok=True)
    project = make_project()
    machine.make_settings(project, slates_per_round=0)
    machine.make_base(project)
    yield project
    shutil.rmtree(settings.BASE_MODELS_DIR)


@pytest.fixture
def judge(teaching: Project) -> Member:
    return make_member(teaching)


@pytest.fixture
def points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Failpoints:
    """The failpoints of this process and of those that it starts."""
    folder = tmp_path / "failpoints"
    monkeypatch.setenv(failpoints.VARIABLE, str(folder))
    return Failpoints(folder)


@pytest.fixture
def toy(points: Failpoints, settings: Settings) -> None:
    """The toy engine instead of the real one, and the short times of the other processes."""
    settings.ENGINE_MODULE = "tests.faults.toy_engine"
    settings.RUN_LEASE_S = float(FAST["ROUNDTABLE_RUN_LEASE_S"])
    settings.RUN_HEARTBEAT_S = float(FAST["ROUNDTABLE_RUN_HEARTBEAT_S"])
    settings.RECONCILE_S = float(FAST["ROUNDTABLE_RECONCILE_S"])


@pytest.fixture
def project(toy: None, processes: Processes) -> Iterator[Project]:
    """A project that the toy engine trains, whose next round is an SFT alone."""
    yield make_toy_project()
    shutil.rmtree(settings.BASE_MODELS_DIR)


@pytest.fixture
def invariants(project: Project) -> Invariants:
    return Invariants(project)
