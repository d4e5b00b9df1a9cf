"""A run that is small and learns something: an SFT of nine steps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.rlhf.conftest import MakeRun
from tests.rlhf.reward_runs import demonstration

SFT = {"epochs": 3, "batch_size": 2, "learning_rate": 1e-3, "max_response": 32}  # nine steps of six demonstrations

MakeSft = Callable[..., Path]


@pytest.fixture
def make_sft(make_run: MakeRun, models: dict[str, Path]) -> MakeSft:
    def make(name: str = "run", **options: Any) -> Path:
        rows = {"demonstrations": [demonstration(n) for n in range(6)]}
        return make_run("sft", parents={"base": models["llama"]}, data=rows, name=name, **{**SFT, **options})

    return make
