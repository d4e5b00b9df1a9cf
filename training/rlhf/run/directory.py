"""A run is a directory: what the engine is asked, what it reads, and what each attempt at it writes.

config.json   what to do                          fence   the attempt that may write
data/*.jsonl  the records                         alive   touched whenever there is progress
attempts/<fence>/metrics.jsonl, phase.json, setbacks.json, ending.json, checkpoints/step-000200/, output/
"""

import json
import math
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ..config import RunConfig, load_config
from ..exits import Diverged, FenceLost, Interrupted, InvalidInput, current_fence
from ..failpoints import reach
from . import checkpoint
from .checkpoint import Checkpoint, Tensors
from .manifest import LeadsOut, hashed_files, manifest_sha256, sealed, verifies
from .phases import Phases
from .recovery_log import Setback, Setbacks

Saved = tuple[Mapping[str, Tensors], Mapping[str, Any]]  # tensors by name, and the state beside them


class RunDirectory:
    """One attempt at a run."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.fence = current_fence(self.path)
        self.attempt = self.path / "attempts" / self.fence
        self.attempt.mkdir(parents=True, exist_ok=True)
        self.interrupted = False  # somebody asked us to stop soon
        self.step = 0  # the last that was done
        self.phases = Phases(self.attempt, self.touch)
        self.setbacks = Setbacks(self.attempt)
        self._checked: set[tuple[Path, str]] = set()  # model directories and the hash that they were found to have
        self._saved_at = time.monotonic()

    def config(self) -> RunConfig:
        """What this run is asked to do. Raises InvalidInput."""
        return load_config(self.path / "config.json")

    def data(self, name: str) -> Path:
        """The records called `name`; the file need not exist."""
        return self.path / "data" / f"{name}.jsonl"

    def parent(self, cfg: RunConfig, role: str) -> Path:
        """The model directory in this role. Raises InvalidInput where it is not the one that was meant."""
        parent = cfg.parents[role]
        directory = self.path / parent.path  # an absolute path stays what it is
        if not directory.is_dir():
            raise InvalidInput(
                f"there is no model directory for parents.{role}", kind="parent_gone", field=f"parents.{role}"
            )
        try:
            size = sum(path.stat().st_size for path in hashed_files(directory))
        except LeadsOut as error:
            raise InvalidInput(
                f"the model directory for parents.{role}: {error.strerror}", kind="link_leaves", field=f"parents.{role}"
            ) from error
        checked = (directory, parent.manifest_sha256) in self._checked
        self.phases.enter("loading", role, done=size if checked else 0, total=size, unit="bytes")
        if not checked and manifest_sha256(directory, self.phases.advance) != parent.manifest_sha256:
            raise InvalidInput(
                f"the model directory for parents.{role} has changed: its hash is another one",
                kind="parent_changed",
                field=f"parents.{role}",
            )
        self._checked.add((directory, parent.manifest_sha256))
        return directory

    def touch(self) -> None:
        """Say that there is progress."""
        (self.path / "alive").touch()
        reach("engine-alive", f"after step {self.step}")

    def check_fence(self) -> None:
        """Raises FenceLost once another attempt owns the run."""
        if current_fence(self.path) != self.fence:
            raise FenceLost(f"attempt {self.fence} no longer owns this run")

    def stop_on_sigterm(self) -> None:
        """From now on a SIGTERM asks us to save and leave."""
        signal.signal(signal.SIGTERM, self._interrupt)

    def leave_if_asked(self) -> None:
        """Raises Interrupted where we were asked to stop and there is nothing to save."""
        if self.interrupted:
            raise Interrupted("stopped on request; the stage goes on from its last checkpoint, or else starts over")

    def touch_or_leave(self) -> None:
        """The progress of a stage that saves nothing on its way: asked to stop, it leaves at once."""
        self.touch()
        self.leave_if_asked()

    @property
    def is_finished(self) -> bool:
        """This attempt has published its output already."""
        return verifies(self.attempt / "output")

    def output(self) -> AbstractContextManager[Path]:
        """A directory to fill, which becomes this attempt's output when the block ends."""
        self.phases.enter("saving", "output")
        return sealed(self.attempt / "output", self.check_fence)

    def log(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """Append what was measured after `step` of `total`. Raises Diverged where it is no number."""
        for name, value in metrics.items():
            if not math.isfinite(value):
                told = f"{name} is not finite ({value}) after step {step}"
                raise Diverged(told, kind="metric_not_finite", field=name)
        line = {"step": step, "total": total, "time": time.time(), "metrics": metrics}
        with self._metrics.open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")
        self.step = step
        self.touch()

    def resume(self) -> Checkpoint | None:
        """The newest checkpoint of any attempt, if there is one; the metrics go on after its step."""
        self.phases.enter("loading", "checkpoint")
        found = self.newest_checkpoint()
        kept: list[str] = []
        if found:
            kept = [line for line in _whole_lines(found.attempt / "metrics.jsonl") if _step(line) <= found.step]
        self.check_fence()
        for draft in self.path.glob("attempts/**/.*.draft"):  # of attempts that were killed
            shutil.rmtree(draft, ignore_errors=True)
        cut = self._metrics.with_suffix(".cut")
        cut.write_text("".join(kept), "utf-8")
        cut.replace(self._metrics)
        self.step = found.step if found else 0
        self.phases.enter("working", "steps")
        return found

    def newest_checkpoint(self) -> Checkpoint | None:
        """The newest whole checkpoint of any attempt; damaged ones on the way to it are set aside and reported."""
        found = checkpoint.newest(self._checkpoints())
        self.check_fence()
        on = f"on from that of step {found.whole.step}" if found.whole else "back to its start: there was no whole one"
        for path in found.damaged:
            step = checkpoint.step_of(path)
            text = f"The checkpoint of step {step} was damaged and is set aside; the stage went {on}."
            self.setbacks.note(Setback("damaged_checkpoint", step, text))
            checkpoint.set_aside(path)
        return found.whole

    def save_if_due(self, step: int, total: int, every_seconds: int, saved: Callable[[], Saved]) -> None:
        """Checkpoint after `step` when it is time, at the end, and when asked to stop. Raises Interrupted then."""
        due = time.monotonic() - self._saved_at >= every_seconds
        if not (due or self.interrupted or step == total):
            return
        tensors, state = saved()
        self.phases.enter("saving", "checkpoint", total=checkpoint.size(tensors), unit="bytes")
        checkpoint.save(self.attempt / "checkpoints", step, tensors, state, self.check_fence, self.phases.advance)
        self.check_fence()
        checkpoint.prune(self._checkpoints())
        self.phases.enter("working", "steps")
        self._saved_at = time.monotonic()
        if self.interrupted:
            raise Interrupted(f"stopped on request after step {step}, with a checkpoint")

    def _checkpoints(self) -> Iterator[Path]:
        return self.path.glob("attempts/*/checkpoints")

    @property
    def _metrics(self) -> Path:
        return self.attempt / "metrics.jsonl"

    def _interrupt(self, signum: int, frame: object) -> None:
        self.interrupted = True


def _whole_lines(path: Path) -> Iterator[str]:
    """The lines of a file that were written to their end."""
    if path.exists():
        for line in path.read_text("utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                yield line


def _step(line: str) -> int:
    step: int = json.loads(line)["step"]
    return step
