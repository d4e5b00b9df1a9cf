"""What an attempt computed with: versions, device and config.

Another of them may give other numbers, so an exact resume asks what has changed since.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.utils.translation import gettext as _

from training.models import Run, Worker
from training.rlhf.run import origin_file
from training.services.run_files import directories
from training.services.run_files.directories import ENVIRONMENT
from training.services.run_files.reader import RunFiles


def write(run: Run, attempt: Path) -> None:
    """Keep in the folder of an attempt what it computes with."""
    worker = Worker.objects.filter(name=run.owner).first()
    here = {
        "versions": versions(),
        "device": worker.device if worker else "",
        "config": RunFiles(run).config,
    }
    with contextlib.suppress(OSError):  # it is only for people; a full disk is reported by what cannot do without
        (attempt / ENVIRONMENT).write_text(json.dumps(here, indent=1), "utf-8")


def versions() -> dict[str, str]:
    """What is installed here, by name."""
    return {name: number or _("not installed") for name, number in origin_file.versions().items()}


def changes(run: Run, attempt: Path) -> Iterator[str]:
    """What is different now from when `attempt` of `run` computed, a sentence each; nothing where it left no record."""
    then = directories.read_json(attempt / ENVIRONMENT)
    if then is None:
        return
    here = versions()
    for name, old in then["versions"].items():
        if here.get(name) != old:
            yield _("%(name)s was %(old)s and is now %(new)s.") % {"name": name, "old": old, "new": here.get(name)}
    yield from _other_config(then["config"], RunFiles(run).config)
    yield from _other_device(then["device"])


def _other_config(then: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    for name in sorted((then.keys() | now.keys()) - {"parents"}):
        if then.get(name) != now.get(name):
            change = {"name": name, "old": then.get(name), "new": now.get(name)}
            yield _("%(name)s in config.json was %(old)s and is now %(new)s.") % change


def _other_device(then: str) -> Iterator[str]:
    """Whether the live workers compute on something else. Where there is none, nobody knows."""
    now = sorted(set(Worker.objects.alive("gpu").values_list("device", flat=True)))
    if then and now and then not in now:
        yield _("It ran on %(old)s, but the workers now have %(new)s.") % {"old": then, "new": ", ".join(now)}
