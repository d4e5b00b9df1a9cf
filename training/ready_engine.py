"""An engine that has done its imports, which take seconds, and waits to be told what to run.

Short stages would take twice as long without. It is started beside the engine before it, where there is memory for it,
and used if nothing that it has read has changed meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from django.conf import settings

from training.rlhf import memory

LEAST_FREE = 4_000_000_000  # bytes; it takes a tenth of that

Start = Callable[[Mapping[str, str]], "subprocess.Popen[bytes]"]  # an engine that waits, in an environment


class _Read(NamedTuple):
    """What an engine has read once it waits."""

    environment: Mapping[str, str]
    code: tuple[str, int]  # the folder, and when a file in it was changed last

    @classmethod
    def now(cls, environment: Mapping[str, str]) -> _Read:
        folder = settings.BASE_DIR / "training/rlhf"
        return cls(environment, (str(folder), max(path.stat().st_mtime_ns for path in folder.rglob("*.py"))))


class ReadyEngine:
    """At most one engine that waits; the worker's process has it, and it dies with that."""

    def __init__(self) -> None:
        self._waiting: tuple[subprocess.Popen[bytes], _Read] | None = None

    def prepare(self, start: Start, environment: Mapping[str, str]) -> None:
        """Have an engine wait, unless memory is short."""
        self.dismiss()
        free = memory.free_bytes()
        if free is None or free >= LEAST_FREE:
            self._waiting = (start(environment), _Read.now(environment))

    def take(
        self, arguments: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes] | None:
        """The engine that has waited, now with `arguments` and its output appended to `log`; None if there is none."""
        if self._waiting is None:
            return None
        process, read = self._waiting
        assert process.stdin
        try:
            if process.poll() is None and read == _Read.now(environment):
                process.stdin.write(json.dumps({"arguments": arguments, "log": str(log)}).encode() + b"\n")
                process.stdin.close()
                self._waiting = None
                return process
        except OSError:  # it has died meanwhile, or its code is being replaced
            pass
        self.dismiss()
        return None

    def dismiss(self) -> None:
        """Let it go, where there is one."""
        if self._waiting:
            process, _read = self._waiting
            self._waiting = None
            process.kill()
            process.wait()
            assert process.stdin
            with contextlib.suppress(OSError):
                process.stdin.close()
