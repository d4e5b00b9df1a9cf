"""Real processes on the test's database, broker and data directory: workers, beat, and the engines that they start."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from celery import current_app
from django.conf import settings

from config import settings as product
from tests.web_server import database_url

CELERY = ("celery", "-A", "config")
# So that a silence is noticed within a test's time.
FAST = {"ROUNDTABLE_RUN_LEASE_S": "3", "ROUNDTABLE_RUN_HEARTBEAT_S": "0.5", "ROUNDTABLE_RECONCILE_S": "1"}


class Processes:
    """Starts processes like those of deploy/, and leaves none behind."""

    def __init__(self, logs: Path, **environment: str) -> None:
        self.logs = logs
        self.environment = environment
        self.running: list[subprocess.Popen[bytes]] = []

    def supervisor(self, *options: str) -> subprocess.Popen[bytes]:
        """A gpu worker without Celery, which starts in a second."""
        return self._start("tests.faults.supervisor", f"gpu-{len(self.running)}@test", *options)

    def worker(self, queue: str) -> subprocess.Popen[bytes]:
        name = f"{queue}-{len(self.running)}@test"
        alone = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        return self._start(*CELERY, "worker", "-n", name, "-Q", queue, "-P", "prefork", "-c", "1", "-l", "INFO", *alone)

    def beat(self) -> subprocess.Popen[bytes]:
        return self._start(*CELERY, "beat", "--scheduler", "celery.beat:Scheduler", "--pidfile=")

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """SIGKILL for the main process alone."""
        process.kill()
        process.wait()

    def session(self, process: subprocess.Popen[bytes]) -> list[int]:
        """The process ids of its session: itself, its pool and their engines."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                session = path.read_text("utf-8").rpartition(")")[2].split()[3]
                if session == str(process.pid):
                    found.append(int(path.parent.name))
        return sorted(found)

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to a process, which may have died meanwhile."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def stop_all(self) -> None:
        for process in self.running:
            process.poll() is None and process.kill()  # which ends a stopped one, too
        for process in self.running:
            process.wait()

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.logs / f"{len(self.running)}-{arguments[0]}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=settings.BASE_DIR,
                env=os.environ | FAST | self._environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.running.append(process)
        return process

    def _environment(self) -> dict[str, str]:
        own = {
            "DATABASE_URL": database_url(),
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "ROUNDTABLE_ENGINE_MODULE": settings.ENGINE_MODULE,
            "TMPDIR": str(temporary_folder()),
        }
        return own | self.environment


def temporary_folder() -> Path:
    """The processes' TMPDIR."""
    folder = Path(settings.DATA_DIR) / "tmp"
    folder.mkdir(exist_ok=True)
    return folder


def product_times() -> dict[str, str]:
    """The product's own times of leases, heartbeats and sweeps, instead of the short ones."""
    return {name: str(getattr(product, name.removeprefix("ROUNDTABLE_"))) for name in FAST}


def wait_until(holds: Callable[[], object], *, within: float) -> float:
    """Wait until `holds()`; returns after how many seconds it did."""
    start = time.monotonic()
    while not holds():
        assert time.monotonic() - start < within, "it did not happen in time"
        time.sleep(0.1)
    return time.monotonic() - start


def engines(run_directory: Path) -> list[int]:
    """The process ids of the engines that work in `run_directory`, by where their output goes.

    One that was kept ready got its command later than its command line.
    """
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (path / "cmdline").read_bytes()
            output = (path / "fd/1").readlink()
            if output.is_relative_to(run_directory) and settings.ENGINE_MODULE.encode() in command:
                found.append(int(path.name))
    return found


def orphan_processes() -> list[int]:
    """The process ids of those that work on this test's data, and are neither the test nor below it any more.

    Ours are Python; a browser of an earlier test leaves helpers of its own.
    """
    wanted = str(settings.DATA_DIR).encode()
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (path / "cmdline").read_bytes()
            knows_it = wanted in command or wanted in (path / "environ").read_bytes()
            if knows_it and b"python" in command and os.getpid() not in ancestors(int(path.name)):
                found.append(int(path.name))
    return found


def ancestors(pid: int) -> list[int]:
    """A process, its parent, the parent of that, and so on."""
    return [pid, *ancestors(parent_of(pid))] if pid > 1 else [pid]


def parent_of(pid: int) -> int:
    """The process id of the parent."""
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    return int(status.split("PPid:")[1].split()[0])


def exit_status(pid: int) -> int | None:
    """The exit status of a process that has ended, as long as its parent has not asked for it."""
    state, *others = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return int(others[-1]) >> 8 if state == "Z" else None


def kill_engine(run_directory: Path) -> None:
    for pid in engines(run_directory):
        os.kill(pid, signal.SIGKILL)


def empty_broker() -> None:
    """What a wiped folder or a FLUSHDB leaves."""
    if settings.REDIS_URL:
        with current_app.connection_for_write() as broker:
            broker.default_channel.client.flushdb()
    else:
        shutil.rmtree(settings.DATA_DIR / "broker", ignore_errors=True)
