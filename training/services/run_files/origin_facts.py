"""The origin of a run in words: the code, the versions and the machine that computed it, and how long that took."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NamedTuple

from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from training.services.run_files.reader import RunFiles

SHOWN_OF_HASH = 8  # characters, as elsewhere on the page


class Facts(NamedTuple):
    """What the newest attempt with an origin left."""

    code: str
    versions: str
    hardware: str
    wall_time: timedelta | None  # None while it computes, and where it was killed
    earlier: int  # engine processes before it


def describe(files: RunFiles) -> Facts | None:
    """The origin of a run; None where there is none, as in runs from before it was kept."""
    if not (origin := files.origin):
        return None
    versions = [f"{name} {number}" for name, number in origin["versions"].items() if number]
    return Facts(
        code=_code(origin["code"]),
        versions=", ".join(versions),
        hardware=", ".join(_hardware(origin["hardware"])),
        wall_time=timedelta(seconds=origin["wall_s"]) if "wall_s" in origin else None,
        earlier=len(origin["earlier"]),
    )


def _code(code: dict[str, Any]) -> str:
    words = {
        "version": code["version"] or "?",
        "hash": (code["commit"] or code["sha256"])[:SHOWN_OF_HASH],
    }
    if not code["commit"]:
        return _("%(version)s, files %(hash)s…") % words
    if code["is_changed"]:
        return _("%(version)s, commit %(hash)s… with changes") % words
    return _("%(version)s, commit %(hash)s…") % words


def _hardware(hardware: dict[str, Any]) -> Iterator[str]:
    for gpu in hardware["gpus"]:
        yield _("%(name)s with %(memory)s") % {"name": gpu["name"], "memory": filesizeformat(gpu["memory_bytes"])}
    if hardware["driver"]:
        yield _("driver %(version)s") % {"version": hardware["driver"]}
    yield f"{hardware['cpu']} ({hardware['instructions']})"
    yield ngettext("%(number)d thread", "%(number)d threads", hardware["threads"]) % {"number": hardware["threads"]}
