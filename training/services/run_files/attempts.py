"""The signs of life of a run: what it does between its numbered steps, what went wrong on the way, and whether its
worker is still there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _

from training.models import Run
from training.services.run_files import directories, metrics


def lost() -> set[int]:
    """The ids of the runs whose worker is silent. The reconciler takes them from it when the lease ends."""
    return set(Run.objects.lost().values_list("pk", flat=True))


def newest_attempt(run: Run, name: str) -> Path | None:
    """The folder of the newest attempt that has a file `name`.

    Not simply that of the run's fence: a run that is taken from a silent worker gets a new one, and waits under it.
    """
    files = run.directory.glob(f"attempts/*/{name}")
    return max((path.parent for path in files), key=lambda folder: int(folder.name), default=None)


def phase(run: Run) -> str:
    """What the engine does outside its numbered steps, with how far it is; empty where it does not say."""
    if run.status != Run.Status.RUNNING:
        return ""
    said = _read(directories.attempt(run.directory, run.fence) / "phase.json")
    if not isinstance(said, dict) or not said.get("what"):
        return ""
    sentences = {
        "loading": _("loading the %(what)s"),
        "reading": _("reading the %(what)s"),
        "saving": _("saving the %(what)s"),
    }  # while it works, its steps are told
    if not (sentence := sentences.get(str(said.get("name")))):
        return ""
    return ", ".join(filter(None, [sentence % {"what": said["what"]}, _amount(said)]))


def setbacks(run: Run) -> list[str]:
    """What went wrong and was overcome without a person, a sentence each; every attempt knows of those before it."""
    told = [_read(path) for path in run.directory.glob("attempts/*/setbacks.json")]
    longest = max((said for said in told if isinstance(said, list)), key=len, default=[])
    return [str(entry["text"]) for entry in longest if isinstance(entry, dict) and entry.get("text")]


def config(run: Run) -> dict[str, Any]:
    """The config that was saved with `run`; it never changes. Empty where the directory is gone."""
    read = _read(run.directory / "config.json")
    return read if isinstance(read, dict) else {}


def log_tail(run: Run) -> str:
    """The end of what the newest attempt said."""
    folder = newest_attempt(run, directories.LOG)
    return directories.log_tail(run.directory, int(folder.name)) if folder else ""


def catch_up(run: Run) -> Run:
    """`run` with the step that its engine has told, which the row learns with the next heartbeat; not saved."""
    folder = newest_attempt(run, metrics.FILE) if run.status == Run.Status.RUNNING else None
    if folder and (rows := metrics.newest(folder)):
        run.step, run.total = rows[-1].step, rows[-1].total
    return run


def _amount(said: dict[str, Any]) -> str:
    done, total = said.get("done"), said.get("total")
    if not isinstance(done, int | float):
        return ""
    if said.get("unit") == "bytes":
        done, total = filesizeformat(done), filesizeformat(total) if total else None
    if total:
        return _("%(done)s of %(total)s") % {"done": done, "total": total}
    return str(done) if done else ""


def _read(path: Path) -> Any:
    """A JSON file that another process replaces; None where there is none."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
