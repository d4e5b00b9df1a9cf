"""Files that are replaced in one step: a reader finds the old content or the new, whatever kills the writer.

Nothing is synced to the disk here: what has to survive a power cut is written by run/manifest.py.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A draft to write, which replaces `path` when the block ends. Where that raises OSError, no draft is left."""
    draft = path.with_suffix(".draft")
    try:
        yield draft
        draft.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


def write_json(path: Path, content: Any, **options: Any) -> None:
    """Replace `path` by `content` as JSON; `options` are those of json.dumps. Raises OSError."""
    with replacing(path) as draft:
        draft.write_text(json.dumps(content, **options), "utf-8")
