"""An engine that reads and writes run directories as the real one does (see training/rlhf/run/directory.py), and learns
nothing: its steps take milliseconds.

What it saves says which attempt did each step, so that a test can count how often a step was done for the result.
A file `poison` in the run directory makes it kill its supervisor before its first step.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from training.rlhf.__main__ import attempt_folder, exit_status
from training.rlhf.data.records import SampledCompletion, write
from training.rlhf.exits import Diverged, FenceLost, Interrupted
from training.rlhf.failpoints import reach
from training.rlhf.run import manifest

STEP_S = 0.01
STEPS = 12  # of a stage whose config names no iterations


class Attempt:
    """One attempt at a run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fence = (path / "fence").read_text()
        self.folder = path / "attempts" / self.fence
        self.config: dict[str, Any] = json.loads((path / "config.json").read_text())
        self.total: int = self.config.get("iterations", STEPS)
        self.stopping = False
        signal.signal(signal.SIGTERM, self._stop)

    def work(self) -> None:
        done_by = self._resume()
        for step in range(len(done_by) + 1, self.total + 1):
            reach("toy-step", f"{step} of {self.config['stage']}")
            time.sleep(STEP_S)
            done_by.append(self.fence)
            self._log(step)
            self._checkpoint(step, done_by)
            if self.stopping:
                raise Interrupted(f"stopped on request after step {step}, with a checkpoint")
        with manifest.sealed(self.folder / "output", self._check_fence) as draft:
            (draft / "config.json").write_text("{}")
            (draft / "model.safetensors").write_text(json.dumps(done_by))
            if self.config["stage"] == "sampling":
                write(draft / "completions.jsonl", self._completions())

    def _resume(self) -> list[str]:
        found = self.path.glob("attempts/*/checkpoints/step-*")
        for path in sorted(found, key=lambda path: path.name, reverse=True):
            if manifest.verifies(path):
                return list(json.loads((path / "state.json").read_text()))
        return []

    def _checkpoint(self, step: int, done_by: list[str]) -> None:
        with manifest.sealed(self.folder / "checkpoints" / f"step-{step:06d}", self._check_fence) as draft:
            text = json.dumps(done_by)
            with (draft / "state.json").open("w") as out:
                out.write(text[: len(text) // 2])
                out.flush()
                reach("toy-mid-file", step)
                out.write(text[len(text) // 2 :])

    def _log(self, step: int) -> None:
        if self.config["seed"] < 0:
            raise Diverged("the loss was not finite three times in a row")
        (self.path / "alive").touch()
        row = {"step": step, "total": self.total, "time": time.time(), "metrics": {"sft/loss": 1 / step}}
        with (self.folder / "metrics.jsonl").open("a") as out:
            out.write(json.dumps(row) + "\n")

    def _completions(self) -> list[SampledCompletion]:
        prompts = [json.loads(line) for line in (self.path / "data" / "prompts.jsonl").read_text().splitlines()]
        blank = SampledCompletion(
            prompt_id="", index=0, policy="policy", text="", n_tokens=1, logprob=-1.0, reward=0.0, finish_reason="stop"
        )
        return [
            dataclasses.replace(blank, prompt_id=str(prompt["id"]), index=index, text=f"Answer {index}.")
            for prompt in prompts
            for index in range(self.config["k"])
        ]

    def _check_fence(self) -> None:
        if (self.path / "fence").read_text() != self.fence:
            raise FenceLost(f"attempt {self.fence} no longer owns this run")

    def _stop(self, signum: int, frame: object) -> None:
        self.stopping = True


def main(run_dir: Path) -> int:
    if (run_dir / "poison").exists():
        os.kill(os.getppid(), signal.SIGKILL)
        signal.pause()  # until it dies with it: a step done meanwhile would be progress, which earns a fresh start
    return exit_status(lambda: Attempt(run_dir).work(), attempt_folder(run_dir))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[2])))
