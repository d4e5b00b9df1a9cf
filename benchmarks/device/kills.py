"""Stages that are killed and resumed, beside others that are not. A part of benchmarks/gpu.py.

    python -m benchmarks.device.kills FOLDER SHAPE [--small]

Each stage runs by the engine's command line: once to its end, once more, and once until a SIGKILL after its second
step, before that is saved, and then to its end. All must write the same bytes; where they do not, the lines say which
operators torch called not deterministic.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.device.commands import StageProcess, not_deterministic
from benchmarks.device.lines import Record, emit
from benchmarks.device.models import SHAPES, Texts, write_model
from tests.rlhf.run_directories import write_run
from training.rlhf import failpoints
from training.rlhf.run.manifest import file_hashes

STAGES = ("sft", "reward", "ppo")
KILL = "kill after step 2"
OPTIONS: dict[str, Record] = {
    "sft": {"epochs": 2, "batch_size": 16},
    "reward": {"epochs": 2, "batch_size": 8},
    "ppo": {"iterations": 4, "rollout_size": 16, "minibatch_size": 8},
}


class Stages:
    """Run directories around one model."""

    def __init__(self, folder: Path, shape: str, *, small: bool) -> None:
        self.folder = folder
        self.model = write_model(folder / "model", SHAPES[shape])
        words = 4 if small else 60
        texts = Texts(words, words)
        self.data: dict[str, dict[str, list[Record]]] = {
            "sft": {"demonstrations": texts.demonstrations(32)},
            "reward": {"rankings": texts.rankings(16)},
            "ppo": {"prompts": texts.prompts(32)},
        }
        self.max_response = 8 if small else 64

    def start(self, stage: str, name: str, **environment: str) -> StageProcess:
        """The stage in a new run directory of this name."""
        parents: dict[str, dict[str, Path]] = {
            "sft": {"base": self.model},
            "reward": {"policy": self.model},
            "ppo": {"policy": self.model, "reference": self.model, "reward": self.output("reward")},
        }
        options: dict[str, Any] = OPTIONS[stage] | {"dtype": "auto", "checkpoint_seconds": 0}
        run = self.folder / f"{stage}-{name}"
        write_run(run, stage, parents=parents[stage], data=self.data[stage], max_response=self.max_response, **options)
        return StageProcess(stage, run, **environment)

    def output(self, stage: str, name: str = "whole") -> Path:
        """The output of a stage in the run directory of this name."""
        return self.folder / f"{stage}-{name}" / "attempts/1/output"

    def step_metrics(self, stage: str, name: str) -> list[Record]:
        """The metrics of each step."""
        lines = (self.output(stage, name).parent / "metrics.jsonl").read_text().splitlines()
        return [{**json.loads(line), "time": None} for line in lines]

    def differences(self, stage: str, name: str) -> list[str]:
        """The files that are not those of the undisturbed run, metrics among them."""
        ours, theirs = file_hashes(self.output(stage, name)), file_hashes(self.output(stage))
        differing = sorted(file for file in ours.keys() | theirs.keys() if ours.get(file) != theirs.get(file))
        alike = self.step_metrics(stage, name) == self.step_metrics(stage, "whole")
        return differing if alike else [*differing, "metrics.jsonl"]


def kill_and_resume(stages: Stages, stage: str, *, small: bool) -> Record:
    """What came of a stage that was killed, and of one that was not."""
    armed = stages.folder / f"{stage}-failpoints"
    armed.mkdir()
    (armed / "engine-alive.1").write_text(KILL)
    processes = {"whole": stages.start(stage, "whole")}
    if not small:
        processes["again"] = stages.start(stage, "again")
    killed = stages.start(stage, "killed", **{failpoints.VARIABLE: str(armed)}).wait()
    processes["killed"] = StageProcess(stage, stages.folder / f"{stage}-killed")
    ended = {name: process.wait() for name, process in processes.items()}
    if failed := [one for one in ended.values() if one.code]:
        return {"failed": failed[0].log[-300:]}
    return {
        "killed_by_signal": -killed.code,
        "resumed_differs_in": stages.differences(stage, "killed"),
        "again_differs_in": None if small else stages.differences(stage, "again"),
        "not_deterministic": not_deterministic(killed.log + "".join(one.log for one in ended.values())),
        "seconds": ended["whole"].seconds,
        "peak_process_mib": ended["whole"].peak_bytes / 2**20,
    }


def main() -> None:
    """Print a line for each stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    stages = Stages(options.folder, options.shape, small=options.small)
    if options.small:  # one stage is enough to see that this works; it needs a reward model
        stages.start("reward", "whole").wait()
    for stage in STAGES[-1:] if options.small else STAGES:
        line = kill_and_resume(stages, stage, small=options.small)
        emit("kill and resume", stage=stage, shape=options.shape, **line)


if __name__ == "__main__":
    main()
