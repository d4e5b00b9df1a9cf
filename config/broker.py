"""The embedded message broker: one file per message in a local folder, so that a first installation needs no server.

Left out on purpose: durability (the database row is the job, a lost message costs at most one sweep of the
reconciler), fan-out and remote control, redelivery after a crash, network file systems. Kombu's own file transport
writes messages in place and dies on a torn one; here a message is either whole or not there.
"""

import logging
import os
import time
import uuid
from pathlib import Path
from queue import Empty
from typing import Any
from urllib.parse import quote

from kombu.transport import TRANSPORT_ALIASES, virtual
from kombu.utils.json import dumps, loads

SCHEME = "roundtable-files"
UNREADABLE = "unreadable"  # the folder for files that are no messages, next to those of the queues
SHOWN = 500  # bytes of such a message that the log repeats where it cannot be kept
logger = logging.getLogger(__name__)


class Channel(virtual.Channel):
    """Each queue is a folder; names sort by the time of publishing. Unreadable files end in `unreadable/`."""

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        """Publish `message`: it appears under its final name at once and whole, or not at all."""
        folder = self._folder(queue)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{_new_name()}.json"
        unfinished = folder / f".{name}"
        try:
            with open(unfinished, "x", opener=_open_private) as file:
                file.write(dumps(message))
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(folder / name)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:
        """Take the oldest readable message. Raises Empty."""
        for path in self._messages(queue):
            try:
                message = parse(path.read_bytes(), self)
                # Of several workers that read the file, one manages to remove it: the message is that one's.
                path.unlink()
            except FileNotFoundError:
                continue
            except Exception:  # whatever was put there, the next message is delivered
                self._set_aside(path)
            else:
                return message
        raise Empty

    def _size(self, queue: str) -> int:
        return len(self._messages(queue))

    def _purge(self, queue: str) -> int:
        messages = self._messages(queue)
        for path in messages:
            path.unlink(missing_ok=True)
        return len(messages)

    def _folder(self, queue: str) -> Path:
        return Path(self.connection.client.transport_options["folder"]) / quote(queue, safe="")

    def _messages(self, queue: str) -> list[Path]:
        return sorted(self._folder(queue).glob("[0-9]*.json"))

    def _set_aside(self, path: Path) -> None:
        aside = path.parent.parent / UNREADABLE
        aside.mkdir(mode=0o700, exist_ok=True)
        try:
            path.rename(aside / path.name)
        except OSError:
            logger.exception("%s could not be read and could not be moved aside", path)
        else:
            logger.error("%s could not be read and has been moved to %s", path.name, aside)


class Transport(virtual.Transport):
    """Polls its folders; every process knows the bindings from the declared queues, not from a file."""

    Channel = Channel
    polling_interval = 0.25
    driver_type = driver_name = SCHEME
    # Shared by the connections of a process: a reconnecting publisher keeps its bindings.
    bindings = virtual.BrokerState()

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        self.state = self.bindings

    def driver_version(self) -> str:
        return "1"


def parse(raw: bytes, channel: virtual.Channel) -> dict[str, Any]:
    """The message that `raw` is, whole enough for `channel` to hand it on. Raises whatever its contents make fail."""
    message: dict[str, Any] = loads(raw)
    whole = channel.Message(message, channel=channel)
    if not {"exchange", "routing_key"} <= whole.delivery_info.keys() or not isinstance(whole.delivery_tag, str):
        raise ValueError("JSON, but not a message")
    return message


def keep_aside(folder: Path, content: bytes, why: object) -> None:
    """Log a message that cannot be read, and keep it in the broker's `folder` for a person to inspect."""
    path = folder / UNREADABLE / f"{_new_name()}.json"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(path, "xb", opener=_open_private) as file:
            file.write(content)
    except OSError:
        logger.exception("A message could not be read (%s) and could not be moved aside: %r", why, content[:SHOWN])
    else:
        logger.error("A message could not be read (%s) and has been moved to %s", why, path)


def _new_name() -> str:
    # The wall clock, since the monotonic one starts again at every boot. It decides order, never correctness.
    return f"{time.time_ns():020d}-{uuid.uuid4().hex}"


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


TRANSPORT_ALIASES[SCHEME] = f"{__name__}:Transport"
TRANSPORT_ALIASES |= dict.fromkeys(("redis", "rediss"), "config.redis_broker:Transport")
