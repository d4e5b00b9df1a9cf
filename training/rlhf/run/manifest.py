"""Directories that are whole or not there. Imports no torch, because who publishes them has none.

A directory is written under a temporary name, every file is synced, manifest.json with the hash of each goes in
last, and then it is renamed. Whatever kills the writer, a reader sees a manifest that verifies, or looks elsewhere.
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
    """A link in a directory points out of it: what it points to is not the model's."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.ELOOP, f"{path.name} is a link that leads out of the folder; put a copy in its place")


Counted = Callable[[int], None]  # told of so many more bytes


def uncounted(number: int) -> None:
    """For who does not ask how far the bytes are."""


@contextmanager
def sealed(target: Path, before_rename: Callable[[], None]) -> Iterator[Path]:
    """A temporary directory to fill, which becomes `target` with a manifest, in one step."""
    draft = target.with_name(f".{target.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    reach("sealed-begins", target)
    draft.mkdir(parents=True)
    with _errors_of_the_disk():
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
def _errors_of_the_disk() -> Iterator[None]:
    """safetensors tells in words alone that the disk is full; here it becomes the OSError that others raise."""
    try:
        yield
    except Exception as error:
        number = None if isinstance(error, OSError) else re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), str(error)) from error


def verifies(directory: Path, counted: Counted = uncounted) -> bool:
    """Whether a sealed directory has a manifest and every file in it is unchanged."""
    try:
        manifest = json.loads((directory / MANIFEST).read_text("utf-8"))
        return isinstance(manifest, dict) and manifest.get("files") == file_hashes(directory, counted)
    except (OSError, ValueError):  # also a file that the disk no longer gives back
        return False


def manifest_sha256(directory: Path, counted: Counted = uncounted) -> str:
    """One hash over the names and contents of a model directory as it is now, with or without a manifest."""
    return hash_of(file_hashes(directory, counted))


def file_hashes(directory: Path, counted: Counted = uncounted) -> dict[str, dict[str, Any]]:
    """{name: {"size", "sha256"}} of the files in a directory, hidden ones and the manifest apart."""
    return hashes_of({path.name: path for path in hashed_files(directory)}, counted)


def hashes_of(files: Mapping[str, Path], counted: Counted = uncounted) -> dict[str, dict[str, Any]]:
    """{name: {"size", "sha256"}} of these files."""
    return {
        name: {"size": path.stat().st_size, "sha256": _sha256(path, counted)} for name, path in sorted(files.items())
    }


def hashed_files(directory: Path) -> list[Path]:
    """The files that a directory's hash is about. Raises LeadsOut."""
    return [path for path in visible_files(directory) if path.name != MANIFEST]


def visible_files(directory: Path) -> list[Path]:
    """The files in a directory, hidden ones apart. Raises LeadsOut where one is a link to somewhere else."""
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


def _sha256(path: Path, counted: Counted) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            counted(len(chunk))
    return digest.hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
