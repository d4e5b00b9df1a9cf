"""The one reader of a run's files: its config, and what its attempts have written so far."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _

from training import stages
from training.models import Run
from training.rlhf.run import origin_file, recovery_log
from training.services.run_files import directories, metrics
from training.services.run_files.metrics import Pace, Row


class RunFiles:
    """What lies in the directory of `run`, each file read when it is first asked for: make a new one for each page."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def newest_attempt(self, name: str) -> Path | None:
        """The folder of the newest attempt that has a file `name`.

        Not simply that of the run's fence: a run that is taken from a silent worker gets a new one, and waits under it.
        """
        found = directories.find(self.run.directory, name)
        return found[-1].parent if found else None

    @cached_property
    def config(self) -> dict[str, Any]:
        """The config that was saved with the run; it never changes. Empty where the directory is gone."""
        config = directories.read_json(self.run.directory / "config.json")
        return config if isinstance(config, dict) else {}

    @property
    def processes(self) -> int:
        """How many processes the run wants; 1 where its config does not say so plainly, which the engine refuses."""
        wanted = self.config.get("processes", 1)
        return wanted if isinstance(wanted, int) and wanted > 0 else 1

    @property
    def origin_file(self) -> Path | None:
        """Where the newest attempt that says so says what it computed with and from."""
        attempt = self.newest_attempt(origin_file.FILE)
        return attempt / origin_file.FILE if attempt else None

    @cached_property
    def origin(self) -> dict[str, Any]:
        """What is in that file; empty where there is none, as in runs from before it was kept."""
        return origin_file.read(self.origin_file.parent) if self.origin_file else {}

    @cached_property
    def history(self) -> list[Row]:
        """Everything that the run has measured, step by step.

        An attempt that resumes takes over the lines up to its checkpoint, so the newest attempt that has any line knows
        the whole history; what came after the checkpoint in an older attempt was done again.
        """
        newest_first = reversed(directories.attempts(self.run.directory))
        return next((rows for attempt in newest_first if (rows := metrics.read(attempt).rows)), [])

    @cached_property
    def newest_rows(self) -> list[Row]:
        """The end of a history that may be long: enough to say how far the run is, and how fast it goes."""
        attempt = self.newest_attempt(metrics.FILE)
        return metrics.newest(attempt) if attempt else []

    @property
    def pace(self) -> Pace | None:
        """How fast the newest attempt goes that has measured anything; None while it has done no step of its own."""
        attempt = self.newest_attempt(metrics.FILE)
        return metrics.measure_pace(self.newest_rows, began=_began(attempt)) if attempt else None

    @property
    def phase(self) -> str:
        """What the engine does outside its numbered steps, with how far it is; empty where it does not say."""
        if self.run.status != Run.Status.RUNNING:
            return ""
        phase = directories.read_json(directories.attempt(self.run.directory, self.run.fence) / "phase.json")
        if not isinstance(phase, dict) or not phase.get("what"):
            return ""
        sentences = {
            "loading": _("loading the %(what)s"),
            "reading": _("reading the %(what)s"),
            "saving": _("saving the %(what)s"),
        }  # none while it works: then the page shows its steps
        if not (sentence := sentences.get(str(phase.get("name")))):
            return ""
        what = stages.TRUNKS.get(str(phase["what"]), phase["what"])
        return ", ".join(filter(None, [sentence % {"what": what}, _amount(phase)]))

    @property
    def recoveries(self) -> list[str]:
        """What went wrong and was overcome without a person, a sentence each; every attempt knows of those before."""
        found = [directories.read_json(path) for path in directories.find(self.run.directory, recovery_log.FILE)]
        longest = max((entries for entries in found if isinstance(entries, list)), key=len, default=[])
        return [str(entry["text"]) for entry in longest if isinstance(entry, dict) and entry.get("text")]

    @property
    def log_tail(self) -> str:
        """The end of the newest log."""
        attempt = self.newest_attempt(directories.LOG)
        return directories.log_tail(self.run.directory, int(attempt.name)) if attempt else ""

    @property
    def checkpoints(self) -> list[Path]:
        """The folders of the checkpoints in all attempts."""
        return directories.find(self.run.directory, directories.CHECKPOINTS)

    @cached_property
    def samples(self) -> dict[int, Path]:
        """The files with the samples that PPO kept, by step."""
        return directories.samples(self.run.directory)

    def catch_up(self) -> None:
        """Give the run the step that its engine has written, which its row gets with the next heartbeat; not saved."""
        if self.run.status == Run.Status.RUNNING and self.newest_rows:
            self.run.step, self.run.total = self.newest_rows[-1].step, self.newest_rows[-1].total


def _began(attempt: Path) -> float:
    """When the attempt began, by the first file that is written for it; 0 where there is none."""
    try:
        return (attempt / directories.ENVIRONMENT).stat().st_mtime
    except OSError:
        return 0.0


def _amount(phase: dict[str, Any]) -> str:
    done, total = phase.get("done"), phase.get("total")
    if not isinstance(done, int | float):
        return ""
    if phase.get("unit") == "bytes":
        done, total = filesizeformat(done), filesizeformat(total) if total else None
    if total:
        return _("%(done)s of %(total)s") % {"done": done, "total": total}
    return str(done) if done else ""
