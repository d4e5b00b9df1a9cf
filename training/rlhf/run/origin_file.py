"""origin.json: what an attempt computed with and from, so that its result can be explained and made again.

It names no folder, host, person or environment variable: it may leave the machine together with the model. Imports no
torch, because the platform shows it.
"""

import json
import platform
import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..config import RunConfig, to_json
from .manifest import hash_of, hashes_of

FILE = "origin.json"
SCHEMA = 1
PACKAGES = ("torch", "transformers", "peft", "tokenizers", "safetensors")
ENGINE = Path(__file__).resolve().parents[1]
ROOT = ENGINE.parents[1]  # of the checkout, where there is one
GIT_TIMEOUT_S = 10
DONE = "done"  # how an attempt ended that has written its output


def read(attempt: Path) -> dict[str, Any]:
    """The origin of an attempt; empty where it left none, or none that can be read."""
    try:
        origin = json.loads((attempt / FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return origin if isinstance(origin, dict) and origin.get("schema") == SCHEMA else {}


def code() -> dict[str, Any]:
    """The code that computes: its version, its commit where it is in a git checkout, and a hash that it always has."""
    sources = {path.relative_to(ENGINE).as_posix(): path for path in ENGINE.rglob("*.py")}
    return {"version": _version(), **_commit(), "sha256": hash_of(hashes_of(sources))}


def lock_sha256() -> str | None:
    """The hash of the pinned versions; None where the code lies without them."""
    lock = ROOT / "requirements.lock"
    return str(hashes_of({lock.name: lock})[lock.name]["sha256"]) if lock.is_file() else None


def versions() -> dict[str, str | None]:
    """What is installed here, by name; None for what is not."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def config_facts(cfg: RunConfig) -> dict[str, Any]:
    """The config without the parents, whose paths say nothing elsewhere, and the hash of each parent."""
    config = to_json(cfg)
    del config["parents"]
    return {"config": config, "parents": {role: each.manifest_sha256 for role, each in sorted(cfg.parents.items())}}


def _version() -> str | None:
    try:
        return str(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"])
    except (OSError, ValueError, KeyError):
        return None


def _commit() -> dict[str, Any]:
    """The commit, and whether the engine's files differ from it; both None outside a checkout or without git."""
    unknown = {"commit": None, "is_changed": None}
    # A checkout of something else may lie around it, so a file of the engine has to be known to git.
    if _git("ls-files", "--error-unmatch", "run") is None:
        return unknown
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--", ".")
    return unknown if commit is None or changes is None else {"commit": commit, "is_changed": bool(changes)}


def _git(*arguments: str) -> str | None:
    """What git prints in the engine's folder; None where it fails, or is not installed."""
    command = ["git", "--no-optional-locks", "-C", str(ENGINE), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
