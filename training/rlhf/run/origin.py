"""Writes origin.json: the beginning of it when a stage begins, since a killed run should leave it too, then the end."""

import json
import platform
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from .. import endings, ranks
from ..config import RunConfig
from ..exits import RankLost
from ..json_files import write_json
from . import origin_file
from .directory import RunDirectory
from .manifest import MANIFEST, hashes_of

CPU_NAME = re.compile(r"^model name\s*:\s*(.+)$", re.MULTILINE)
DRIVER_VERSION = re.compile(r"\b\d+\.\d+(?:\.\d+)?\b")


@contextmanager
def recorded(run: RunDirectory) -> Iterator[Callable[[RunConfig], None]]:
    """Keep the origin of an attempt; what this yields is called with the config whenever the stage begins with it.

    Raises OSError where the beginning cannot be written. At the end a disk may be full: what was made counts more.
    """
    began = time.monotonic()
    origin = {"schema": origin_file.SCHEMA, "began_at": time.time(), "earlier": _earlier(run), **_surroundings(run)}

    def write() -> None:
        origin["recoveries"] = [entry._asdict() for entry in run.recovery_log.entries]
        if run.writes:
            write_json(run.attempt / origin_file.FILE, origin, indent=1)

    def begin(cfg: RunConfig) -> None:
        origin.update(origin_file.config_facts(cfg))
        write()

    def end(how: str) -> None:
        origin.update({"wall_s": round(time.monotonic() - began, 3), "exit": how})
        with suppress(OSError):
            write()

    try:
        yield begin
    except RankLost:  # this process knows no end
        raise
    except Exception as error:
        end(endings.describe(error)["kind"])
        raise
    origin["output"] = _sealed_files(run.attempt / "output")
    end(origin_file.DONE)


def hardware() -> dict[str, Any]:
    """What this process computes on."""
    gpus = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return {
        "cpu": _cpu_name(),
        "instructions": torch.backends.cpu.get_cpu_capability(),  # those that torch uses, such as AVX512
        "matrix_tiles": torch.cpu._is_amx_tile_supported(),  # with which dtype auto may be bf16
        "threads": torch.get_num_threads(),
        "gpus": [{"name": gpu.name, "memory_bytes": gpu.total_memory} for gpu in gpus],
        "driver": _found(DRIVER_VERSION, Path("/proc/driver/nvidia/version")) if gpus else None,
        "cuda": torch.version.cuda if gpus else None,
        "world_size": ranks.count(),  # processes
    }


def _surroundings(run: RunDirectory) -> dict[str, Any]:
    return {
        "code": origin_file.code(),
        "lock_sha256": origin_file.lock_sha256(),
        "versions": origin_file.versions(),
        "hardware": hardware(),
        "data": {path.name: _data_hash(run, path) for path in run.data_files()},
    }


def _data_hash(run: RunDirectory, path: Path) -> dict[str, Any] | None:
    """Size and hash of a file of records; None where it cannot be read, which the stage refuses in its own words."""
    try:
        found: dict[str, Any] = hashes_of({path.name: path}, lambda _read: run.report_progress())[path.name]
        return found
    except OSError:
        return None


def _earlier(run: RunDirectory) -> list[dict[str, Any]]:
    """The engine processes before this one, the oldest first; a killed one has no `exit`."""
    folders = (run.path / "attempts").iterdir()
    left = [(folder.name, origin) for folder in folders if (origin := origin_file.read(folder))]
    if not left:
        return []
    fence, last = max(left, key=lambda each: each[1]["began_at"])
    summary = {name: last.get(name) for name in ("began_at", "wall_s", "exit")}
    return [*last["earlier"], {"attempt": fence, **summary}]


def _sealed_files(output: Path) -> dict[str, Any] | None:
    """The hashes in the manifest of what the stage has just written."""
    try:
        manifest = json.loads((output / MANIFEST).read_text("utf-8"))
        return {"sha256": manifest["sha256"], "files": manifest["files"]}
    except OSError:
        return None


def _cpu_name() -> str:
    return _found(CPU_NAME, Path("/proc/cpuinfo")) or platform.processor() or platform.machine()


def _found(pattern: re.Pattern[str], path: Path) -> str | None:
    """The first match in a file of the system; None where there is none."""
    try:
        found = pattern.search(path.read_text("utf-8", "replace"))
    except OSError:
        return None
    return found[found.lastindex or 0].strip() if found else None
