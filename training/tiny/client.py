"""A small client of the REST API: one connection, one token, JSON both ways."""

import json
import time
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 60
TRIES = 75  # a server that restarts is away for some seconds; every call here may safely be repeated
PAUSE_S = 0.2  # between two tries
TOO_MANY = 429  # calls a minute: the answer says how long to wait


class ApiError(Exception):
    """The server refused; `status` and the problem's own words say why."""

    def __init__(self, status: int, method: str, path: str, body: str) -> None:
        super().__init__(f"{method} {path} was answered {status}: {body[:500]}")
        self.status = status


class Client:
    """One caller of one server."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self.connection = kind(parts.netloc, timeout=TIMEOUT_S)
        self.prefix = f"{parts.path.rstrip('/')}/api/v1/"
        self.headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def send(self, method: str, path: str, body: Any = None) -> Any:
        """The decoded answer. Raises ApiError for anything but success, OSError when nobody answers."""
        data = None if body is None else json.dumps(body).encode()
        for tries_left in reversed(range(TRIES)):
            try:
                self.connection.request(method, self.prefix + path, data, self.headers)
                response = self.connection.getresponse()
                text = response.read().decode()
                if response.status != TOO_MANY or not tries_left:
                    break
                time.sleep(float(response.headers.get("Retry-After", PAUSE_S)))
            except (HTTPException, ConnectionError):
                self.connection.close()
                if not tries_left:
                    raise
                time.sleep(PAUSE_S)
        if response.status >= 400:
            raise ApiError(response.status, method, path, text)
        return json.loads(text) if text else None

    def get(self, path: str) -> Any:
        """The decoded answer to a GET. Raises as `send` does."""
        return self.send("GET", path)

    def close(self) -> None:
        self.connection.close()
