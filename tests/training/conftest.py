"""Fixtures of the training tests: a data directory, and a base model in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pytest_django import Settings

from annotate.models import Project
from tests.training import machine
from training.models import ModelVersion


@pytest.fixture(scope="session")
def built_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama-style model, built once: importing torch takes seconds."""
    from tests.rlhf.tiny_models import build

    return build("llama", tmp_path_factory.mktemp("base-models") / machine.BASE)


@pytest.fixture
def data_dir(settings: Settings, tmp_path: Path) -> Path:
    """A data directory of the test's own."""
    settings.DATA_DIR = tmp_path
    return tmp_path


@pytest.fixture
def base(project: Project, built_base: Path, data_dir: Path, settings: Settings) -> ModelVersion:
    """The project's base model, with settings that train within seconds."""
    settings.BASE_MODELS_DIR = data_dir / "base-models"
    shutil.copytree(built_base, settings.BASE_MODELS_DIR / machine.BASE)
    machine.make_settings(project)
    return machine.make_base(project)
