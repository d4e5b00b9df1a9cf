"""Bodies of requests, read while no page thread waits for them: bounded in time, in size, and all together in room."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import IO, Any

from django.conf import settings
from django.urls import Resolver404, resolve
from django.utils.http import parse_header_parameters

Receive = Callable[[], Awaitable[dict[str, Any]]]

IN_MEMORY = 64 * 1024  # bytes of one body; what is longer goes to a file without a name
SPOOLED_LIMIT = 512 * 1024 * 1024  # bytes of all bodies that are longer, together
REFUSAL = "roundtable.refusal"  # in the environ, where no client can write: the status of config.errors.refusals
CHARSETS = {"utf-8", "utf8"}
DRAIN_S, DRAIN_IDLE_S = 10.0, 2.0  # a browser shows an answer only once it has sent what it meant to send

logger = logging.getLogger(__name__)


def limit_of(path: str) -> int:
    """The most bytes that a body sent to `path` may have: files of prompts are larger than anything else."""
    try:
        megabytes = settings.LARGEST_IMPORT_MB.get(resolve(path).view_name, 0)
    except Resolver404:
        megabytes = 0
    # What is not much larger than an import may be still hears so from the form or the API, with the number.
    return int(settings.LARGEST_BODY_BYTES + megabytes * 1024 * 1024)


def utf8_only(environ: dict[str, Any]) -> dict[str, Any]:
    """A request that names another charset is to be refused; Django would look it up, and fail over what is no text.

    Python knows "hex" and "zlib" as encodings, too.
    """
    try:
        kind, parameters = parse_header_parameters(environ.get("CONTENT_TYPE", ""))
    except (LookupError, ValueError):
        kind, parameters = "", {"charset": "unknown"}
    if parameters.get("charset", "utf-8").strip().lower() in CHARSETS:
        return environ
    return environ | {"CONTENT_TYPE": kind, REFUSAL: HTTPStatus.UNSUPPORTED_MEDIA_TYPE}


class Refused(Exception):
    """This body is not taken; `status` says why."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


class Gone(Exception):
    """The client left before its body was complete."""


class Body:
    """One request's body as a file; `close()` gives its room back."""

    spooled = 0  # bytes, of every body beyond IN_MEMORY; the event loop is the only one that counts

    def __init__(self) -> None:
        folder = str(settings.SPOOL_DIR)
        self.file: IO[bytes] = tempfile.SpooledTemporaryFile(IN_MEMORY, dir=folder)  # noqa: SIM115  (close() is ours)
        self.limit = settings.LARGEST_BODY_BYTES
        self.size = 0

    def write(self, chunk: bytes) -> None:
        """Append `chunk`. Raises Refused where the body, or all bodies together, grow too large."""
        counted = self._counted()
        if self.size + len(chunk) > self.limit:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        self.size += len(chunk)
        Body.spooled += self._counted() - counted
        if Body.spooled > SPOOLED_LIMIT and self._counted():
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE)
        try:
            self.file.write(chunk)
        except OSError:
            logger.exception("a body could not be written to %s", settings.SPOOL_DIR)
            raise Refused(HTTPStatus.INSUFFICIENT_STORAGE) from None

    def close(self) -> None:
        Body.spooled -= self._counted()
        self.size = 0
        with suppress(OSError):  # what was not written in time fails once more
            self.file.close()

    def _counted(self) -> int:
        return self.size if self.size > IN_MEMORY else 0


async def read(path: str, headers: dict[bytes, bytes], receive: Receive) -> Body:
    """The whole body. Raises Refused where it is too slow or too large, and Gone where its client left."""
    body = Body()
    if b"content-length" not in headers and b"transfer-encoding" not in headers:
        return body  # without a word from the client that there is one, there is none
    body.limit = limit_of(path)
    try:
        if int(headers.get(b"content-length", b"0")) > body.limit:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        async with asyncio.timeout(settings.BODY_TOTAL_S):
            while chunk := await _chunk(receive, settings.BODY_IDLE_S):
                body.write(chunk)
    except TimeoutError:
        body.close()
        raise Refused(HTTPStatus.REQUEST_TIMEOUT) from None
    except BaseException:
        body.close()
        raise
    body.file.seek(0)
    return body


async def drain(headers: dict[bytes, bytes], receive: Receive) -> None:
    """Let a client whose body is too large finish, within reason; one that asked before sending needs no patience."""
    if b"expect" in headers:
        return
    try:
        async with asyncio.timeout(DRAIN_S):
            while await _chunk(receive, DRAIN_IDLE_S):
                pass
    except TimeoutError:
        return


async def _chunk(receive: Receive, idle_s: float) -> bytes:
    """The next bytes, none at the end of the body. Raises Gone, and TimeoutError when none come for `idle_s`."""
    while True:
        message = await asyncio.wait_for(receive(), idle_s)
        if message["type"] == "http.disconnect":
            raise Gone
        chunk = bytes(message.get("body", b""))
        if chunk or not message.get("more_body"):
            return chunk
