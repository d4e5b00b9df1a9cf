"""The folders of BASE_MODELS_DIR as they lie on the disk. Inspecting them is cheap: every page that lists them does.

What is in the files only the engine reads. Files next to the folders, and hidden folders, are no models.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from django.conf import settings
from django.utils.translation import gettext as _

from training.models import Adoption, TrainingSettings

QUIET_S = 20.0  # a folder in which something was written more recently is still being copied
LONGEST_NAME = Adoption._meta.get_field("folder").max_length or 0


class Unreadable(Exception):
    """The folder cannot be read as it is; the message says why and what to do."""


class State(NamedTuple):
    """What can be seen of a folder without reading its files."""

    fingerprint: str
    is_quiet: bool  # nothing has been written there for a while


def names() -> list[str]:
    """The folders, in the order in which they are shown."""
    try:
        found = [path.name for path in Path(settings.BASE_MODELS_DIR).iterdir() if path.is_dir()]
    except OSError:
        return []
    return sorted(name for name in found if not name.startswith("."))


def path_of(name: str) -> Path:
    """Where the folder `name` lies; a name comes from `names()`."""
    return Path(settings.BASE_MODELS_DIR) / name


def printable(name: str) -> str:
    """A name as pages, JSON and the database take it, whatever bytes it has on the disk."""
    return name.encode("utf-8", "backslashreplace").decode()


def inspect(name: str) -> State:
    """Names, sizes and times of what lies in the folder. Raises Unreadable."""
    _refuse_name(name)
    try:
        entries = list(_entries(path_of(name)))
    except OSError as error:
        raise Unreadable(
            _("The folder cannot be read: %(reason)s. Make it readable for the user that runs Roundtable.")
            % {"reason": error.strerror or type(error).__name__}
        ) from None
    facts = sorted(facts for facts, _changed in entries)
    latest = max((changed for _facts, changed in entries), default=0.0)
    age = time.time() - latest
    fingerprint = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    return State(fingerprint, is_quiet=not 0 <= age < QUIET_S)  # a time in the future comes from another clock


def _refuse_name(name: str) -> None:
    """Raises Unreadable for a name that no setting can hold."""
    if name != printable(name):
        raise Unreadable(_("The name is not valid UTF-8. Rename the folder."))
    if name == TrainingSettings.TINY:
        raise Unreadable(_("The name “tiny” is reserved for the built-in model. Rename the folder."))
    if len(name) > LONGEST_NAME:
        raise Unreadable(
            _("The name has more than %(number)d characters. Rename the folder.") % {"number": LONGEST_NAME}
        )


def _entries(folder: Path) -> Iterator[tuple[tuple[str, int, int], float]]:
    """((name, bytes, time of writing), time of the last change) of each entry; of a link, those of what it leads to."""
    for path in folder.iterdir():
        try:
            about = path.stat()
        except OSError:  # a link into nothing, or to itself
            about = path.lstat()
        size = 0 if path.is_dir() else about.st_size
        # What changes in a folder below does not count, nor does the time at which a copy got a second name.
        written = 0 if path.is_dir() else int(about.st_mtime)
        yield (printable(path.name), size, written), max(about.st_mtime, about.st_ctime)
