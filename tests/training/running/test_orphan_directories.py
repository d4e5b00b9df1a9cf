"""What a crash left behind is removed once it is old, and what is in use is not."""

from __future__ import annotations

import os
import time
from pathlib import Path

from pytest_django import Settings

from training.services.running import orphan_directories


def test_an_upload_that_a_killed_process_left_is_removed_after_a_day(
    db: None, settings: Settings, tmp_path: Path
) -> None:
    settings.SPOOL_DIR = tmp_path
    old, new = tmp_path / "old.upload", tmp_path / "new.upload"
    for path, age_s in ((old, settings.LEFTOVERS_AFTER_S + 1), (new, 10)):
        path.write_bytes(b"a")
        os.utime(path, (time.time() - age_s, time.time() - age_s))
    orphan_directories.remove()
    assert list(tmp_path.iterdir()) == [new]
