"""The web process's entry point: `granian --interface asginl config.asgi:application`.

Django answers pages in few threads. None of them waits for a client: a body is complete before a page thread takes
the request, and when an answer leaves the thread it is complete, an open file, or pieces that are made one by one while
the client takes them. docs/decisions/0008 says why.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import IO, Any
from urllib.parse import unquote_to_bytes

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections

from config import bodies
from config.bodies import Receive

Scope = Mapping[str, Any]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Environ = dict[str, Any]

PAGE_THREADS = 4
FILE_THREADS = 4
CHUNK = 256 * 1024  # bytes of a download that are read at once
IN_MEMORY = 1024 * 1024  # bytes; a file this small is sent like a page
STALLED_S = 300.0  # a download nobody reads from is given up

logger = logging.getLogger(__name__)


class Application:
    """An ASGI application around a WSGI one."""

    def __init__(self, pages: Callable[..., Iterable[bytes]]) -> None:
        self.pages = pages
        self.page_threads = ThreadPoolExecutor(PAGE_THREADS, "page")
        self.file_threads = ThreadPoolExecutor(FILE_THREADS, "file")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            environ = await self._complete(scope, receive)
        except bodies.Gone:  # or the server could not read on: then the client is still there for an answer
            await self._deliver(
                plain(HTTPStatus.BAD_REQUEST, "The body of this request cannot be read."), receive, send
            )
            return
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self.page_threads, self._answer, environ)
        finally:
            environ["roundtable.body"].close()
        await self._deliver(answer, receive, send)

    async def _complete(self, scope: Scope, receive: Receive) -> Environ:
        """The request with its body, or with why that is refused. Raises Gone."""
        headers = dict(scope["headers"])
        try:
            body = await bodies.read(path_of(scope), headers, receive)
        except bodies.Refused as refused:
            if refused.status != HTTPStatus.REQUEST_TIMEOUT:
                await bodies.drain(headers, receive)
            return environ_of(scope, bodies.Body()) | {bodies.REFUSAL: refused.status}
        return bodies.utf8_only(environ_of(scope, body))

    def _answer(self, environ: Environ) -> Answer:
        """In a page thread: what Django says, ready to be sent without it."""
        started = Started()
        try:
            response = self.pages(environ, started)
            if getattr(response, "streaming", False) and not isinstance(response, FileContent):
                return _streamed(started, response, environ["SERVER_PROTOCOL"])
            try:
                return Answer(started.status, started.headers, _content(response))
            finally:
                if hasattr(response, "close"):
                    response.close()
        except Exception:
            logger.exception("%s %s failed without a response", environ["REQUEST_METHOD"], environ["PATH_INFO"])
            return plain(HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong on the server. Try again in a moment.")

    async def _deliver(self, answer: Answer, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        if isinstance(answer.content, bytes):
            await send({"type": "http.response.body", "body": answer.content})
            return
        loop = asyncio.get_running_loop()
        gone = asyncio.ensure_future(_left(receive))  # the server takes what is sent to nobody without a word
        try:
            while chunk := await loop.run_in_executor(self.file_threads, answer.content.read, CHUNK):
                message = {"type": "http.response.body", "body": chunk, "more_body": True}
                await asyncio.wait_for(send(message), STALLED_S)
                if gone.done():
                    return
            await send({"type": "http.response.body", "body": b""})
        except TimeoutError:
            logger.info("download aborted: the client has not read any data for %.0f s", STALLED_S)
        finally:
            # Pieces that end in an error leave the answer without its end: the client sees that it is cut.
            gone.cancel()
            await loop.run_in_executor(self.file_threads, answer.content.close)


async def _left(receive: Receive) -> None:
    """Returns once the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


@dataclass(frozen=True)
class Answer:
    """A response that needs no page thread any more."""

    status: int
    headers: list[tuple[bytes, bytes]]
    content: bytes | IO[bytes] | Pieces


def plain(status: HTTPStatus, sentence: str) -> Answer:
    """An answer where Django has none, with the headers that its answers have."""
    headers = {
        "content-type": "text/plain; charset=utf-8",
        "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
        "referrer-policy": "same-origin",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
    }
    return Answer(status, [(name.encode(), value.encode()) for name, value in headers.items()], sentence.encode())


class Started:
    """WSGI's start_response: keeps the status and the headers."""

    status = 500
    headers: list[tuple[bytes, bytes]] = []

    def __call__(self, status: str, headers: list[tuple[str, str]], exc_info: object = None) -> None:
        self.status = int(status.partition(" ")[0])
        self.headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]


class FileContent:
    """WSGI's file wrapper: an answer that is a file."""

    def __init__(self, file: IO[bytes], block_size: int = 0) -> None:
        self.file = file

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self.file.read(CHUNK), b"")

    def opened_again(self) -> IO[bytes] | None:
        """A second handle of the file, since Django closes its own; None where the answer is no file on disk."""
        try:
            return os.fdopen(os.dup(self.file.fileno()), "rb")
        except (OSError, AttributeError):
            return None

    def close(self) -> None:
        self.file.close()  # Django puts the end of the request in here


class Pieces:
    """An answer that is made while it is sent, each piece in whichever file thread asks for it."""

    def __init__(self, response: Iterable[bytes]) -> None:
        self.response = response
        self.pieces = iter(response)

    def read(self, _size: int = -1) -> bytes:
        """The next piece; empty at the end."""
        close_old_connections()  # a file thread has no requests at whose start Django would do so
        try:
            return next(filter(None, self.pieces), b"")
        finally:
            close_old_connections()

    def close(self) -> None:
        if hasattr(self.response, "close"):
            self.response.close()


def _content(response: Iterable[bytes]) -> bytes | IO[bytes]:
    """All that `response` yields: a page as it is, a file open."""
    if not isinstance(response, FileContent):
        return b"".join(response)
    file = response.opened_again()
    if file is None or os.fstat(file.fileno()).st_size > IN_MEMORY:
        return file or b"".join(response)
    with file:
        return file.read()


def _streamed(started: Started, response: Iterable[bytes], protocol: str) -> Answer:
    """`response` as pieces. HTTP/1.0 cannot tell a cut from the end: there, the whole is made first, and its length."""
    pieces = Pieces(response)
    if protocol not in ("HTTP/1", "HTTP/1.0"):
        return Answer(started.status, started.headers, pieces)
    spool = tempfile.SpooledTemporaryFile(IN_MEMORY, dir=str(settings.SPOOL_DIR))  # noqa: SIM115  (closed when sent)
    try:
        spool.writelines(pieces.pieces)
    except BaseException:
        spool.close()
        raise
    finally:
        pieces.close()
    length = (b"content-length", str(spool.tell()).encode())
    spool.seek(0)
    return Answer(started.status, [*started.headers, length], spool)


def path_of(scope: Scope) -> str:
    return unquote_to_bytes(scope["raw_path"]).decode("latin-1")


def environ_of(scope: Scope, body: bodies.Body) -> Environ:
    """The request as WSGI (PEP 3333) describes it; text is latin-1 there, whatever its bytes mean."""
    client, server = scope.get("client") or ("", 0), scope.get("server") or ("", 0)
    return {
        **_header_variables(scope["headers"]),
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": path_of(scope),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "CONTENT_LENGTH": str(body.size),
        "REMOTE_ADDR": client[0],
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": body.file,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileContent,
        "roundtable.body": body,
    }


def _header_variables(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    variables: dict[str, str] = {}
    for name, value in headers:
        if b"_" in name:
            continue  # X_Forwarded_Proto is not X-Forwarded-Proto, which a proxy vouches for
        variable = name.decode("latin-1").upper().replace("-", "_")
        if variable != "CONTENT_TYPE":
            variable = f"HTTP_{variable}"
        separator = "; " if variable == "HTTP_COOKIE" else ","
        text = value.decode("latin-1")
        variables[variable] = f"{variables[variable]}{separator}{text}" if variable in variables else text
    return variables


application = Application(get_wsgi_application())
