"""`make run`: prepare the data directory, run web, worker, gpu-worker and beat under supervisord, and end with them.

Takes DATA_DIR (./data) and PORT (8000) from the environment; docs/deployment.md lists what else can be set.
"""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import FrameType
from typing import IO
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
# What is empty counts as unset, as in config/settings.py.
DATA_DIR = Path(os.environ.get("DATA_DIR") or ROOT / "data").resolve()
PORT = int(os.environ.get("PORT") or "8000")
ADDRESS = os.environ.get("PUBLIC_URL") or f"http://localhost:{PORT}"
SIGN_IN_COMMAND = f"{sys.executable} {ROOT / 'manage.py'} sign_in_link EMAIL    (--site-admin makes EMAIL a site admin)"
FIRST_ANSWER_S = 120  # on a machine that does much else; people should see the page within ten


def main() -> int:
    os.umask(0o077)
    os.chdir(ROOT)
    os.environ |= {"DATA_DIR": str(DATA_DIR), "PORT": str(PORT), "PUBLIC_URL": ADDRESS, "PYTHON": sys.executable}
    began = time.monotonic()
    (DATA_DIR / "logs").mkdir(parents=True, exist_ok=True)
    lock = take_data_dir()
    refuse_taken_port()
    print("Roundtable is starting …", flush=True)
    links = prepare()
    supervisord = start_supervisord()
    if wait_for_first_answer(supervisord):
        greet(links, seconds=time.monotonic() - began)
    code = supervisord.wait()
    lock.close()
    print("All processes have stopped.")
    return code


def take_data_dir() -> IO[str]:
    """Hold DATA_DIR for this process: two sets of workers on one embedded installation would fight over it."""
    lock = (DATA_DIR / "run.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"Roundtable is already running with {DATA_DIR}. Stop it first, or set another DATA_DIR.")
    return lock


def refuse_taken_port() -> None:
    with socket.socket() as probe:
        # A server that stopped a moment ago leaves the port waiting, which is no reason to refuse it.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError as error:
            sys.exit(f"Port {PORT} cannot be used ({error.strerror}). Choose another one: make run PORT={PORT + 1}")


def prepare() -> str:
    command = [sys.executable, "deploy/prepare.py", "--demo"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"Roundtable could not start (see above). Your data is still in {DATA_DIR}.")
    return done.stdout


def start_supervisord() -> subprocess.Popen[bytes]:
    """Start it in a session of its own, so that Ctrl-C reaches it once, through `stop`, and never its children."""
    supervisord = subprocess.Popen(
        [sys.executable, "deploy/child.py", "-m", "supervisor.supervisord", "-c", "deploy/supervisord.conf"],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )

    def stop(signum: int, frame: FrameType | None) -> None:
        print("\nStopping. A training run saves a checkpoint first, which can take up to two minutes.", flush=True)
        supervisord.terminate()

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, stop)
    return supervisord


def wait_for_first_answer(supervisord: subprocess.Popen[bytes]) -> bool:
    """Whether a page comes in time; a stop while waiting counts as no."""
    deadline = time.monotonic() + FIRST_ANSWER_S
    while time.monotonic() < deadline and supervisord.poll() is None:
        if answers():
            return True
        time.sleep(0.1)
    if supervisord.poll() is None:
        print(f"The web server has not responded yet. See {DATA_DIR}/logs/web.log. Press Ctrl-C to stop.", flush=True)
    return False


def answers() -> bool:
    connection = HTTPConnection("127.0.0.1", PORT, timeout=5)
    try:
        connection.request("GET", "/", headers={"Host": urlsplit(ADDRESS).netloc})
        return connection.getresponse().status < 400
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def greet(links: str, *, seconds: float) -> None:
    print(f"\nRoundtable is running at {ADDRESS} (ready in {seconds:.1f} s)\n")
    by_role = dict(line.split("\t") for line in links.splitlines())
    if begin := by_role.pop("site admin", None):
        print(f"Open this link to begin. It works once; a restart prints a new one.\n\n  {begin}\n")
    else:
        print("To print a sign-in link, run this with the same environment variables as Roundtable:")
        print(f"  {SIGN_IN_COMMAND}")
    if by_role:
        print("To see it as others do, open these in a private window:")
    for role, link in by_role.items():
        print(f"  {role:<11} {link}")
    print(f"\nData and logs: {DATA_DIR}\nPress Ctrl-C to stop.\n", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("Stopped before anything was started.")
