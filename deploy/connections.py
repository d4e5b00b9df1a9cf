"""What the web process asks of the system for its connections, since the server has no option for it."""

import os
import resource
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread

CONNECTIONS = 8192  # open files, of which each connection is one
UNREAD_S = float(os.environ.get("ROUNDTABLE_UNREAD_S", "120"))  # then an answer nobody takes is dropped
LISTENS_WITHIN_S = 60.0


def allow_many() -> None:
    """Idle connections wait for their time limit; they must not use up what the system lets a process open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS if hard == resource.RLIM_INFINITY else min(CONNECTIONS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def drop_unread_answers() -> None:
    """As soon as this process listens: connections inherit the limit from the socket they come in by (Linux only)."""
    if sys.platform == "linux":
        Thread(target=_limit_once_listening, name="limits", daemon=True).start()


def _limit_once_listening() -> None:
    give_up = time.monotonic() + LISTENS_WITHIN_S
    while not _limit_listening() and time.monotonic() < give_up:
        time.sleep(0.05)


def _limit_listening() -> bool:
    """Whether there was a socket that listens. The server opens it after it has loaded the application."""
    limited = [_limit(descriptor) for descriptor in list(Path("/proc/self/fd").iterdir())]
    return True in limited


def _limit(descriptor: Path) -> bool:
    with suppress(OSError):
        if str(descriptor.readlink()).startswith("socket:"):
            with socket.fromfd(int(descriptor.name), socket.AF_INET, socket.SOCK_STREAM) as candidate:
                if candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    candidate.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNREAD_S * 1000))
                    return True
    return False
