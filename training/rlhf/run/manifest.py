"""Directories that are complete or not there. Imports no torch, because the platform publishes them without.

A directory is written under a temporary name, every file is synced, manifest.json with the hash of each goes in
last, and then it is renamed. Whatever kills the writer, a reader finds a directory that verifies, or none.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..failpoints import reach

MANIFEST = "manifest.json"
CHUNK = 1 << 22  # bytes


class LeadsOut(OSError):
    """A link in a directory points out of it, to a file that is not the model's."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.ELOOP, f"{path.name} is a link to a file outside the folder; replace it with a copy")


OnBytes = Callable[[int], None]  # called with the number of further bytes that were read or written


def ignore_bytes(number: int) -> None:
    """Reports no progress."""


@contextmanager
def sealed(target: Path, before_rename: Callable[[], None]) -> Iterator[Path]:
    """A temporary directory to fill, which becomes `target`, with a manifest, in one step.

    `before_rename` may raise where the directory must not appear any more. Raises OSError.
    """
    draft = target.with_name(f".{target.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    reach("sealed-begins", target)
    draft.mkdir(parents=True)
    with errors_of_the_disk():
        yield draft
    reach("sealed-filled", target)
    for path in sorted(draft.iterdir()):
        _sync(path)
    files = file_hashes(draft)
    manifest = {"files": files, "sha256": hash_of(files), "time": time.time()}
    (draft / MANIFEST).write_text(json.dumps(manifest, indent=1), "utf-8")
    _sync(draft / MANIFEST)
    _sync(draft)
    before_rename()
    reach("sealed-complete", target)
    shutil.rmtree(target, ignore_errors=True)  # one that did not verify
    draft.replace(target)
    reach("sealed-renamed", target)
    _sync(target.parent)


@contextmanager
def errors_of_the_disk() -> Iterator[None]:
    """safetensors reports a full disk in its message only; this raises the OSError that it stands for."""
    try:
        yield
    except Exception as error:
        number = None if isinstance(error, OSError) else re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), str(error)) from error


def verifies(directory: Path, on_bytes: OnBytes = ignore_bytes) -> bool:
    """Whether a sealed directory has a manifest and every file in it is unchanged."""
    try:
        manifest = json.loads((directory / MANIFEST).read_text("utf-8"))
        return isinstance(manifest, dict) and manifest.get("files") == file_hashes(directory, on_bytes)
    except (OSError, ValueError):  # also a file that the disk can no longer read
        return False


def manifest_sha256(directory: Path, on_bytes: OnBytes = ignore_bytes) -> str:
    """One hash over the names and contents of a model directory as it is now. Raises LeadsOut."""
    return hash_of(file_hashes(directory, on_bytes))


def file_hashes(directory: Path, on_bytes: OnBytes = ignore_bytes) -> dict[str, dict[str, Any]]:
    """{name: {"size", "sha256"}} of the files in a directory, except hidden ones and the manifest. Raises LeadsOut."""
    return hashes_of({path.name: path for path in hashed_files(directory)}, on_bytes)


def hashes_of(files: Mapping[str, Path], on_bytes: OnBytes = ignore_bytes) -> dict[str, dict[str, Any]]:
    """{name: {"size", "sha256"}} of these files."""
    return {
        name: {"size": path.stat().st_size, "sha256": _sha256(path, on_bytes)} for name, path in sorted(files.items())
    }


def hashed_files(directory: Path) -> list[Path]:
    """The files that a directory's hash covers. Raises LeadsOut."""
    return [path for path in visible_files(directory) if path.name != MANIFEST]


def visible_files(directory: Path) -> list[Path]:
    """The files in a directory, except hidden ones. Raises LeadsOut where one is a link out of it."""
    files = [path for path in sorted(directory.iterdir()) if path.is_file() and not path.name.startswith(".")]
    home = directory.resolve()
    for path in files:
        if leads_out(path, home):
            raise LeadsOut(path)
    return files


def leads_out(path: Path, home: Path) -> bool:
    """Whether `path` is a link to somewhere outside of `home`, which is resolved."""
    try:
        return path.is_symlink() and not path.resolve().is_relative_to(home)
    except (OSError, RuntimeError):  # a link to itself
        return True


def hash_of(files: Mapping[str, Any]) -> str:
    """One hash over what `file_hashes` gave."""
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path, on_bytes: OnBytes) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            on_bytes(len(chunk))
    return digest.hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
