"""Tiny models, each written once for the whole session, and run directories around them."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.rlhf import reward_runs, tiny_models
from tests.rlhf.run_directories import write_run
from training.rlhf.data.chat import Chat
from training.rlhf.networks.policy import Policy, load_policy

torch.set_num_threads(1)

MakeRun = Callable[..., Path]


@pytest.fixture(autouse=True)
def sigterm() -> Iterator[None]:
    """The engine's command line, called in this process, would keep the handler that it sets."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """{family: model directory}. Read only."""
    root = tmp_path_factory.mktemp("models")
    return {family: tiny_models.build(family, root / family) for family in tiny_models.FAMILIES}


@pytest.fixture(params=tiny_models.FAMILIES)
def model_dir(request: pytest.FixtureRequest, models: dict[str, Path]) -> Path:
    """The model directory of each family in turn. Read only."""
    return models[request.param]


@pytest.fixture
def chat(model_dir: Path) -> Chat:
    return Chat.load(model_dir)


@pytest.fixture
def policy(model_dir: Path, chat: Chat) -> Policy:
    return load_policy(model_dir, chat, "fp32")


@pytest.fixture(scope="session")
def reward_models(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """{family: a reward model that was trained on it}. Read only."""
    root = tmp_path_factory.mktemp("reward-models")
    return {family: reward_runs.small(root / family, policy) for family, policy in models.items()}


@pytest.fixture(scope="session")
def watcher(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model of llama's, of rankings that the others never saw. Read only."""
    return reward_runs.watcher(tmp_path_factory.mktemp("watcher") / "run", models["llama"])


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Write a run directory: a stage, and what write_run takes besides."""

    def make(stage: str, *, name: str = "run", **options: Any) -> Path:
        return write_run(tmp_path / name, stage, **options)

    return make
