"""Leftovers: directories that a crash left between the disk and the database, and uploads that nobody reads any more.

No row knows them; they only cost room. What a run wrote lies in its own directory and stays with its row.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from django.conf import settings

from training.models import Adoption, ModelVersion, Run, Snapshot

KEEPERS = {"runs": (Run,), "models": (ModelVersion, Adoption), "snapshots": (Snapshot,)}

logger = logging.getLogger(__name__)


def remove() -> None:
    """Remove the directories that no row knows and that are too old to wait for theirs."""
    for path in _strangers():
        if time.time() - path.stat().st_mtime >= settings.LEFTOVERS_AFTER_S:
            logger.warning("%s belongs to nothing and is removed", path)
            shutil.rmtree(path, ignore_errors=True)
    for upload in settings.SPOOL_DIR.iterdir():  # a web process that was killed cannot remove what it had begun
        with suppress(FileNotFoundError):  # that was read to the end
            if time.time() - upload.stat().st_mtime >= settings.LEFTOVERS_AFTER_S:
                upload.unlink()


def _strangers() -> Iterator[Path]:
    for folder, models in KEEPERS.items():
        # The disk is read first: a row that is written meanwhile is seen.
        found = {path.name: path for path in Path(settings.DATA_DIR, folder).glob("*")}
        known = {str(uuid) for model in models for uuid in model._default_manager.values_list("uuid", flat=True)}
        yield from (path for name, path in sorted(found.items()) if name not in known)
