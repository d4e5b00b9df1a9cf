"""A TCP proxy that can do to a connection what networks do: refuse it, cut it, swallow it, or lose one reply."""

from __future__ import annotations

import contextlib
import select
import socket
import socketserver
import threading
import time
from enum import Enum
from urllib.parse import urlsplit

CHUNK = 65_536
TICK_S = 0.02


class Mode(Enum):
    OPEN = "everything passes"
    REFUSE = "nobody is there, as while a server restarts"
    SWALLOW = "connections stand and nothing comes through"


class Proxy(socketserver.ThreadingTCPServer):
    """Stands before the server of `url`; `self.url` leads through it."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.target = (parts.hostname or "127.0.0.1", parts.port or 0)
        self.mode = Mode.OPEN
        self.fatal = b""  # who sends this loses the reply, and the connection with it
        super().__init__(("127.0.0.1", 0), Connection)
        user = f"{parts.username}:{parts.password or ''}@" if parts.username else ""
        self.url = parts._replace(netloc=f"{user}127.0.0.1:{self.server_address[1]}").geturl()
        threading.Thread(target=self.serve_forever, args=[0.05], daemon=True).start()

    def close(self) -> None:
        self.mode = Mode.REFUSE
        self.shutdown()
        self.server_close()


class Connection(socketserver.BaseRequestHandler):
    """One client with its own way to the server."""

    server: Proxy

    def handle(self) -> None:
        if self.server.mode is Mode.REFUSE:
            return
        with contextlib.suppress(OSError), socket.create_connection(self.server.target) as target:
            while self.server.mode is not Mode.REFUSE:
                if self.server.mode is Mode.SWALLOW:
                    time.sleep(TICK_S)
                elif not self._pass_on(target):
                    return

    def _pass_on(self, target: socket.socket) -> bool:
        """Whether the connection still stands after what came in a tick."""
        ready, _, _ = select.select([self.request, target], [], [], TICK_S)
        for source in ready:
            data = source.recv(CHUNK)
            if not data:
                return False
            if source is self.request and self.server.fatal and self.server.fatal in data:
                self.server.fatal = b""
                target.sendall(data)
                target.recv(CHUNK)  # the server has done it, and nobody hears of it
                return False
            (target if source is self.request else self.request).sendall(data)
        return True
