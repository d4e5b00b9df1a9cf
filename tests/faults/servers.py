"""A Redis and a PostgreSQL of a test's own, as real servers that it may restart."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.processes import wait_until

POSTGRES = "postgres"  # the account: root may not run it


class Redis:
    """Without persistence: it comes back empty."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
        self.command = [path_of_program("redis-server"), "--port", str(self.port), *options]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        wait_until(lambda: accepts_connections(self.port), within=30)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Postgres:
    """A cluster with a copy of a database in it."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"postgres://{POSTGRES}@127.0.0.1:{self.port}/copy"
        self.data = folder / "cluster"
        if os.getuid() == 0:
            shutil.chown(folder, POSTGRES)
        self._run("initdb", "-D", str(self.data), "-A", "trust", "-U", POSTGRES, "-E", "UTF8", "--no-sync")
        self.control("start")

    def copy(self, url: str) -> None:
        self._run("psql", "-q", self.url.replace("/copy", "/postgres"), "-c", "CREATE DATABASE copy TEMPLATE template0")
        self._run("psql", "-q", self.url, input=self._run("pg_dump", url))

    def control(self, command: str) -> None:
        """pg_ctl start, stop or restart; clients are cut off at once, and what they had not committed is lost."""
        mode = () if command == "start" else ("-m", "immediate")
        options = f"-p {self.port} -k {self.data} -c listen_addresses=127.0.0.1 -c fsync=off"  # nobody pulls a plug
        options_of_server = () if command == "stop" else ("-o", options)
        log = str(self.data / "log")
        self._run("pg_ctl", command, "-w", "-D", str(self.data), "-l", log, *mode, *options_of_server)

    def _run(self, program: str, *arguments: str, input: bytes = b"") -> bytes:
        as_postgres = [path_of_program("runuser"), "-u", POSTGRES, "--"] if os.getuid() == 0 else []
        done = subprocess.run(
            [*as_postgres, path_of_program(program), *arguments], input=input, cwd="/", capture_output=True
        )
        assert not done.returncode, done.stderr.decode()
        return done.stdout


@contextmanager
def postgres_with(copied_from: str) -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory(prefix="roundtable-cluster-") as folder:
        server = Postgres(Path(folder))
        try:
            server.copy(copied_from)
            yield server
        finally:
            server.control("stop")


def path_of_program(program: str) -> str:
    """The path of `program`; the test is skipped where it is not installed."""
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
    path = str(debian[-1]) if debian else shutil.which(program)
    if path is None:
        pytest.skip(f"needs {program} to start a server of its own")
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def accepts_connections(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
