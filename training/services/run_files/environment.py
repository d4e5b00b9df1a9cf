"""What an attempt computed with: versions, device and config. Another of them may give other numbers, so an exact
resume asks what has changed since."""

from __future__ import annotations

import contextlib
import json
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from django.utils.translation import gettext as _

from training.models import Run, Worker
from training.services.run_files import attempts

FILE = "environment.json"
PACKAGES = ("torch", "transformers", "tokenizers", "safetensors")


def write(run: Run, attempt: Path) -> None:
    """Keep in the folder of an attempt what it computes with."""
    worker = Worker.objects.filter(name=run.owner).first()
    said = {"versions": versions(), "device": worker.device if worker else "", "config": attempts.config(run)}
    with contextlib.suppress(OSError):  # it is for people; a disk that is full is told of by what needs it
        (attempt / FILE).write_text(json.dumps(said, indent=1), "utf-8")


def versions() -> dict[str, str]:
    """What is installed here, by name."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = _("not installed")
    return found


def changes(run: Run, attempt: Path) -> Iterator[str]:
    """What is different now from when `attempt` of `run` computed, a sentence each; nothing where it did not say."""
    try:
        then: dict[str, Any] = json.loads((attempt / FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return
    here = versions()
    for name, old in then["versions"].items():
        if here.get(name) != old:
            yield _("%(name)s was %(old)s and is %(new)s now.") % {"name": name, "old": old, "new": here.get(name)}
    yield from _other_config(then["config"], attempts.config(run))
    yield from _other_device(then["device"])


def _other_config(then: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    for name in sorted((then.keys() | now.keys()) - {"parents"}):
        if then.get(name) != now.get(name):
            change = {"name": name, "old": then.get(name), "new": now.get(name)}
            yield _("%(name)s in config.json was %(old)s and is %(new)s now.") % change


def _other_device(then: str) -> Iterator[str]:
    """Whether the workers that are there compute on something else. Where none is, that cannot be told."""
    now = sorted(set(Worker.objects.alive("gpu").values_list("device", flat=True)))
    if then and now and then not in now:
        yield _("It computed on %(old)s, and the workers now have %(new)s.") % {"old": then, "new": ", ".join(now)}
