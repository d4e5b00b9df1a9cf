"""Tiny models, each written once for the whole session, and run directories around them."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.rlhf import tiny_models
from training.rlhf.chat import Chat
from training.rlhf.manifest import manifest_sha256
from training.rlhf.networks import Policy, load_policy

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


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Write a run directory: a stage, the directories of its parents, its records by name, and its options."""

    def make(
        stage: str,
        *,
        parents: dict[str, Path] | None = None,
        data: dict[str, list[dict[str, Any]]] | None = None,
        name: str = "run",
        **options: Any,
    ) -> Path:
        run = tmp_path / name
        (run / "data").mkdir(parents=True)
        roles = {
            role: {"path": str(at), "manifest_sha256": manifest_sha256(at)} for role, at in (parents or {}).items()
        }
        config = {"schema": 1, "stage": stage, "seed": 0, "threads": 1, "dtype": "fp32", "parents": roles, **options}
        (run / "config.json").write_text(json.dumps(config))
        for records, rows in (data or {}).items():
            (run / "data" / f"{records}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return run

    return make
