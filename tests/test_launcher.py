"""`make run`, for real: what it prints, that it restarts what dies, and that nothing stays behind, however it ends."""

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from training.tiny.client import ApiError, Client

ROOT = Path(__file__).resolve().parent.parent
LAUNCH = [sys.executable, "deploy/run.py"]
PROGRAMS = {"web": "granian", "worker": "default@", "gpu-worker": "gpu@", "beat": "celery.beat"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("launcher"),
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds its processes in /proc"),
]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("launcher") / "data"


@pytest.fixture
def launcher(data_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A running `deploy/run.py` whose first page has answered; what it printed is in `printed()`."""
    with launched(data_dir) as process:
        yield process


@contextmanager
def launched(data_dir: Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "LD_LIBRARY_PATH"}}
    with (data_dir.parent / "printed").open("wb") as output:
        process = subprocess.Popen(
            LAUNCH,
            cwd=ROOT,
            env=kept | {"DATA_DIR": str(data_dir), "PORT": port} | variables,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_for(lambda: "Press Ctrl-C to stop" in printed(data_dir) or process.poll() is not None, timeout_s=180)
        yield process
    finally:
        for pid in processes(data_dir):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(10)


def printed(data_dir: Path) -> str:
    return (data_dir.parent / "printed").read_text()


def processes(data_dir: Path) -> dict[int, str]:
    """Pid -> command line of every process that works on `data_dir`: its environment or its arguments name it."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            arguments = (folder / "cmdline").read_bytes()
            if str(data_dir).encode() in (folder / "environ").read_bytes() + arguments:
                found[int(folder.name)] = arguments.replace(b"\0", b" ").decode()
    return found


def main_processes(data_dir: Path) -> dict[str, int]:
    """Program -> pid, the oldest where a program has several."""
    found = processes(data_dir)
    return {name: min(pid for pid, line in found.items() if mark in line) for name, mark in PROGRAMS.items()}


def address_of(data_dir: Path) -> str:
    found = re.search(r"Roundtable is running at (\S+)", printed(data_dir))
    assert found, printed(data_dir)
    return found[1]


def page(data_dir: Path) -> int:
    with suppress(URLError, ConnectionError, TimeoutError), urlopen(address_of(data_dir), timeout=5) as answer:
        return int(answer.status)
    return 0


def start_round(data_dir: Path, **variables: str) -> None:
    """Start round 1 of the demo project, as soon as a worker has looked at the labels."""
    token = subprocess.run(
        [sys.executable, "manage.py", "api_token", "admin@roundtable.example", "--scopes", "read", "admin"],
        cwd=ROOT,
        env=os.environ | {"DATA_DIR": str(data_dir)} | variables,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    client = Client(address_of(data_dir), token)

    def has_started() -> bool:
        with suppress(ApiError):
            return bool(client.send("POST", "projects/everyday-questions/rounds/"))
        return False

    wait_for(has_started, timeout_s=120)


def wait_for(happened: Callable[[], object], *, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def test_it_serves_pages_restarts_only_what_dies_and_ends_by_ctrl_c(
    launcher: subprocess.Popen[bytes], data_dir: Path
) -> None:
    assert page(data_dir) == 200
    links = re.findall(r"^  (reviewer|annotator)? *(http://localhost:\d+/\S+)$", printed(data_dir), re.MULTILINE)
    assert [role for role, _ in links] == ["", "reviewer", "annotator"]
    for _, link in links:
        assert urlopen(link, timeout=5).status == 200

    before = main_processes(data_dir)
    os.kill(before["web"], signal.SIGKILL)
    wait_for(lambda: before["web"] not in processes(data_dir) and page(data_dir) == 200, timeout_s=60)
    after = main_processes(data_dir)
    assert {name for name in PROGRAMS if before[name] != after[name]} == {"web"}

    # An engine that trains meanwhile has to end as well.
    start_round(data_dir)
    wait_for(lambda: any("training.rlhf" in line for line in processes(data_dir).values()), timeout_s=60)
    os.kill(launcher.pid, signal.SIGINT)
    assert launcher.wait(150) == 0
    assert processes(data_dir) == {}
    assert not (data_dir / "roundtable.sqlite3-wal").exists()  # the database file alone is complete


def test_it_keeps_its_data_refuses_company_and_takes_everything_with_it_when_killed(
    launcher: subprocess.Popen[bytes], data_dir: Path
) -> None:
    assert page(data_dir) == 200
    with sqlite3.connect(data_dir / "roundtable.sqlite3") as database:
        assert database.execute("SELECT count(*) FROM annotate_project").fetchone() == (2,)  # the demo, the example

    environment = os.environ | {"DATA_DIR": str(data_dir), "PORT": "1"}
    second = subprocess.run(LAUNCH, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30)
    assert second.returncode == 1
    assert "already running" in second.stderr

    os.kill(launcher.pid, signal.SIGKILL)
    wait_for(lambda: processes(data_dir) == {}, timeout_s=150)


def test_behind_https_no_link_stands_in_the_log_but_how_to_get_one(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with launched(data_dir, PUBLIC_URL="https://roundtable.example.org"):
        words = printed(data_dir)
    assert "Roundtable is running at https://roundtable.example.org" in words
    assert "/account/link/" not in words
    assert "manage.py sign_in_link EMAIL" in words
    with sqlite3.connect(data_dir / "roundtable.sqlite3") as database:
        assert database.execute("SELECT count(*) FROM annotate_project").fetchone() == (2,)
        assert database.execute("SELECT count(*) FROM annotate_signinlink").fetchone() == (0,)


def test_nothing_of_it_can_be_read_by_others_and_no_secret_stands_where_it_is_not_needed(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o755)
    data_dir.chmod(0o755)  # as an older version, or a person, may have left it
    secrets = {"SECRET_KEY": "only-for-this-test-" * 4, "EMAIL_URL": "smtp+tls://me:a-password@mail.invalid:587"}
    with launched(data_dir, **secrets):
        start_round(data_dir, **secrets)
        wait_for(lambda: any("training.rlhf" in line for line in processes(data_dir).values()), timeout_s=60)
        found = processes(data_dir)
        umasks = {line: umask for pid, line in found.items() if (umask := umask_of(pid))}
        engines = [pid for pid, line in found.items() if "training.rlhf" in line]
        environments = [Path(f"/proc/{pid}/environ").read_bytes() for pid in engines]
    assert len(umasks) >= len(PROGRAMS)
    assert {line: umask for line, umask in umasks.items() if umask != "0077"} == {}
    for secret in secrets.values():
        assert not any(secret in line for line in found.values())
        assert not any(secret.encode() in environment for environment in environments)
    assert environments
    below = [path for path in [data_dir, *data_dir.rglob("*")] if path.exists() and not path.is_symlink()]
    assert {str(path.relative_to(data_dir)) for path in below if path.stat().st_mode & 0o077} == set()


def umask_of(pid: int) -> str:
    """As /proc tells it; nothing where the process has ended."""
    with suppress(OSError):
        return re.search(r"^Umask:\s*(\d+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[1]  # type: ignore[index]
    return ""
