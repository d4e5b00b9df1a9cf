"""An SFT of nine steps, by one process or several."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.rlhf.conftest import MakeRun
from tests.rlhf.reward_runs import demonstration

MakeSft = Callable[..., Path]


@pytest.fixture
def make_sft(make_run: MakeRun, models: dict[str, Path]) -> MakeSft:
    def make(name: str = "run", processes: int = 2, **options: Any) -> Path:
        rows = {"demonstrations": [demonstration(n) for n in range(12)]}
        sizes = {"epochs": 3, "batch_size": 4, "max_response": 32, "batch_tokens": 100, "checkpoint_seconds": 0}
        given = {**sizes, "learning_rate": 1e-3, "processes": processes, **options}
        return make_run("sft", parents={"base": models["llama"]}, data=rows, name=name, **given)

    return make
