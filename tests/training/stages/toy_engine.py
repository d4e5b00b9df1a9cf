"""The engine as it would be with one more stage: its config and its module, and nothing else changed.

The built-in stages are those of the toy engine of the fault tests, which take milliseconds.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tests.faults import toy_engine
from training.rlhf import config
from training.rlhf.__main__ import main
from training.rlhf.config import RunConfig
from training.rlhf.data.records import read_rankings
from training.rlhf.run.directory import RunDirectory
from training.rlhf.run.manifest import hashed_files


@dataclass(frozen=True, kw_only=True)
class ToyConfig(RunConfig):
    """How often the policy is copied."""

    stage: ClassVar[str] = "toy"
    required_parents: ClassVar[frozenset[str]] = frozenset({"policy"})
    weights_held: ClassVar[int] = 1

    copies: int = 1


def run_stage(run: RunDirectory, cfg: ToyConfig) -> None:
    """The output is the policy as it came; the metric is how many rankings were there to read."""
    policy = run.parent(cfg, "policy")
    run.log(1, 1, {"toy/rankings": len(read_rankings(run.data("rankings")))})
    with run.output() as directory:
        for path in hashed_files(policy):
            shutil.copyfile(path, directory / path.name)


if __name__ == "__main__":
    stage, run_dir = sys.argv[1:]
    config.STAGES["toy"] = ToyConfig
    sys.modules["training.rlhf.stages.toy"] = sys.modules["__main__"]
    sys.exit(main([stage, run_dir]) if stage == "toy" else toy_engine.main(Path(run_dir)))
