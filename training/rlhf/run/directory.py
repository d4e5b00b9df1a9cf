"""A run is a directory: what the engine is asked, what it reads, and what each attempt at it writes.

config.json   what to do                          fence   number of the attempt that may write
data/*.jsonl  the records                         alive   its time stamp is the last progress
attempts/<fence>/origin.json, metrics.jsonl, phase.json, setbacks.json, ending.json, checkpoints/step-000200/, output/
attempts/<fence>/ranks/  where a run has several processes; all else is written by the first of them
"""

import json
import math
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NoReturn

from .. import endings, ranks
from ..config import RunConfig, load_config
from ..exits import Diverged, FenceLost, Interrupted, InvalidInput, RankLost, current_fence
from ..failpoints import reach
from ..json_files import replacing
from . import checkpoint
from .checkpoint import Checkpoint, Tensors
from .manifest import LeadsOut, hashed_files, manifest_sha256, sealed, verifies
from .phases import Phases
from .recovery_log import Recovery, RecoveryLog

CheckpointContents = tuple[Mapping[str, Tensors], Mapping[str, Any]]  # tensors by name, and the state beside them


class RunDirectory:
    """One attempt at a run."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.fence = current_fence(self.path)
        self.attempt = self.path / "attempts" / self.fence
        self.attempt.mkdir(parents=True, exist_ok=True)
        self.interrupted = False  # a SIGTERM has asked to save and stop
        self.step = 0  # the last that is finished
        self.writes = ranks.is_first()  # what is written once, though every process of the run computes it
        self.phases = Phases(self.attempt, self.report_progress, writes=self.writes)
        self.recovery_log = RecoveryLog(self.attempt, keeps=self.writes)
        self._checked: set[tuple[Path, str]] = set()  # model directories and their hashes, once they were verified
        self._saved_at = time.monotonic()

    def config(self) -> RunConfig:
        """The config of this run. Raises InvalidInput."""
        return load_config(self.path / "config.json")

    def data(self, name: str) -> Path:
        """The records called `name`; the file need not exist."""
        return self.path / "data" / f"{name}.jsonl"

    def data_files(self) -> list[Path]:
        """The files of records, by name."""
        return sorted((self.path / "data").glob("*.jsonl"))

    def parent(self, cfg: RunConfig, role: str) -> Path:
        """The model directory in this role. Raises InvalidInput where it is missing or does not have its hash."""
        parent = cfg.parents[role]
        directory = self.path / parent.path  # which is parent.path where that is absolute
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
                f"the model directory for parents.{role} has changed: its hash differs",
                kind="parent_changed",
                field=f"parents.{role}",
            )
        self._checked.add((directory, parent.manifest_sha256))
        return directory

    def report_progress(self) -> None:
        """Touch the file by which the supervisor tells a stage at work from one that hangs."""
        (self.path / "alive").touch()
        reach("engine-alive", f"after step {self.step}")

    def check_fence(self) -> None:
        """Raises FenceLost where another attempt owns the run by now."""
        if current_fence(self.path) != self.fence:
            raise FenceLost(f"attempt {self.fence} no longer owns this run")

    def stop_on_sigterm(self) -> None:
        """From now on a SIGTERM requests a stop: the stage saves a checkpoint and raises Interrupted."""
        signal.signal(signal.SIGTERM, self._interrupt)

    def stop_if_requested(self) -> None:
        """Raises Interrupted where a stop is requested; for moments at which nothing can be saved."""
        if self.interrupted:
            raise Interrupted(
                "stopped on request; the stage will resume from its last checkpoint, or start over if there is none"
            )

    def report_progress_or_stop(self) -> None:
        """For stages without checkpoints. Raises Interrupted where a stop is requested."""
        self.report_progress()
        self.stop_if_requested()

    @property
    def is_finished(self) -> bool:
        """Whether this attempt has written its output already."""
        return verifies(self.attempt / "output")

    def claim_ending(self) -> None:
        """Decide how the attempt ends. Raises RankLost where another process of it has done so already."""
        if not endings.claim(self.attempt):
            raise RankLost("another process of the run has ended first")

    def output(self) -> AbstractContextManager[Path]:
        """A directory to fill, which becomes this attempt's output when the block ends."""
        self.phases.enter("saving", "output")
        return sealed(self.attempt / "output", self.check_fence)

    def write_output(self, fill: Callable[[Path], None]) -> None:
        """Have `fill` write the output into a directory: once, whatever the number of processes."""
        if self.writes:
            with self.output() as directory:
                fill(directory)

    def log(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """Append the metrics after `step` of `total`. Raises Diverged where one is not finite."""
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise Diverged(
                    f"{name} is not finite ({value}) after step {step}", kind="metric_not_finite", field=name
                )
        line = {"step": step, "total": total, "time": time.time(), "metrics": metrics}
        if self.writes:
            with self._metrics.open("a", encoding="utf-8") as out:
                out.write(json.dumps(line) + "\n")
        self.step = step
        self.report_progress()

    def resume(self) -> Checkpoint | None:
        """The newest checkpoint of any attempt, if there is one; metrics.jsonl keeps the lines up to its step."""
        self.phases.enter("loading", "checkpoint")
        found = ranks.first_says(self._prepare_resume() if self.writes else None)
        self.step = found.step if found else 0
        self.phases.enter("working", "steps")
        return found

    def _prepare_resume(self) -> Checkpoint | None:
        """Find the newest checkpoint, and leave of the attempts before what belongs to it."""
        found = self.newest_checkpoint()
        kept: list[str] = []
        if found:
            lines = _complete_lines(found.attempt / "metrics.jsonl")
            kept = [line for line in lines if json.loads(line)["step"] <= found.step]
        self.check_fence()
        for draft in self.path.glob("attempts/**/.*.draft"):  # of attempts that were killed
            shutil.rmtree(draft, ignore_errors=True)
        with replacing(self._metrics) as cut:
            cut.write_text("".join(kept), "utf-8")
        return found

    def newest_checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint of any attempt that verifies; damaged ones after it are set aside and logged."""
        found = checkpoint.newest(self._checkpoints())
        self.check_fence()
        where = (
            f"resumed from the checkpoint of step {found.newest.step}"
            if found.newest
            else "started over, as there was no complete checkpoint"
        )
        for path in found.damaged:
            step = checkpoint.step_of(path)
            text = f"The checkpoint of step {step} was damaged and was set aside; the stage {where}."
            self.recovery_log.add(Recovery("damaged_checkpoint", step, text))
            checkpoint.set_aside(path)
        return found.newest

    def save_if_due(
        self, step: int, total: int, every_seconds: int, contents: Callable[[], CheckpointContents]
    ) -> None:
        """Save a checkpoint after `step` when it is time, at the end, and on request, raising Interrupted then.

        Where there are several processes, all have to call it after the same steps: they stop together.
        """
        stop = ranks.any_says(self.interrupted)
        due = ranks.any_says(self.writes and time.monotonic() - self._saved_at >= every_seconds)
        if due or stop or step == total:
            self._save(step, contents)
        if stop:
            ranks.wait_for_all()  # or the launcher would end the one that saves, as soon as another has left
            raise Interrupted(_stopped_after(step))

    def save_and_stop(self, step: int, contents: Callable[[], CheckpointContents]) -> NoReturn:
        """Save a checkpoint after `step`, which ended some time ago, and raise Interrupted."""
        self._save(step, contents)
        raise Interrupted(_stopped_after(step))

    def _save(self, step: int, contents: Callable[[], CheckpointContents]) -> None:
        tensors, state = contents()
        if not self.writes:
            checkpoint.take_part(tensors)
            return
        self.phases.enter("saving", "checkpoint", total=checkpoint.size(tensors), unit="bytes")
        checkpoint.save(self.attempt / "checkpoints", step, tensors, state, self.check_fence, self.phases.advance)
        self.check_fence()
        checkpoint.prune(self._checkpoints())
        self.phases.enter("working", "steps")
        self._saved_at = time.monotonic()

    def _checkpoints(self) -> Iterator[Path]:
        return self.path.glob("attempts/*/checkpoints")

    @property
    def _metrics(self) -> Path:
        return self.attempt / "metrics.jsonl"

    def _interrupt(self, signum: int, frame: object) -> None:
        self.interrupted = True


def _stopped_after(step: int) -> str:
    return f"stopped on request after step {step}, with a checkpoint"


def _complete_lines(path: Path) -> Iterator[str]:
    """The lines of a file, without a last one that was not written to its end."""
    if path.exists():
        for line in path.read_text("utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                yield line
