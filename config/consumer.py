"""What a worker does with a message before a task sees it: check that it is one of ours, with arguments that fit.

Some messages that Celery does not expect end the worker, and none of them is kept. Here a message that no task can take
is logged and set aside, and the next one is handled.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery.worker import consumer
from celery.worker.consumer.consumer import logger

from config.broker import keep_aside

Handler = Callable[[Any], None]


class NoTask(Exception):
    """The message names no task of ours, or gives it what it does not take."""


class Consumer(consumer.Consumer):  # type: ignore[misc]  # Celery has no types
    """Celery's, for messages from anybody who reaches the broker."""

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Handler:
        handle = super().create_task_handler(*args, **kwargs)

        def handle_or_set_aside(message: Any) -> None:
            try:
                self._check(message)
            except Exception as error:  # each part of the message may be anything
                self._set_aside(message, error)
            else:
                handle(message)

        return handle_or_set_aside

    def on_invalid_task(self, body: Any, message: Any, exc: Exception, **_more: Any) -> None:
        self._set_aside(message, exc)

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        self._set_aside(message, exc)

    def _check(self, message: Any) -> None:
        """Raises NoTask, or whatever the contents of `message` make fail."""
        name = message.headers["task"]
        if name not in self.app.tasks:
            raise NoTask(f"there is no task {name!r}")
        if not isinstance(message.headers["id"], str):
            raise NoTask("its id is no text")
        soft, hard = message.headers.get("timelimit") or (None, None)
        if not all(limit is None or isinstance(limit, int | float) for limit in (soft, hard)):
            raise NoTask("its time limits are no numbers")
        args, kwargs, _embedded = message.payload  # decoded, if its type is one that we accept
        self.app.tasks[name].__header__(*args, **kwargs)

    def _set_aside(self, message: Any, error: Exception) -> None:
        folder = Path(self.app.conf.broker_transport_options["folder"])
        keep_aside(folder, _as_bytes(message.body), f"{type(error).__name__}: {error}; headers {message.headers}")
        if not message.acknowledged:
            message.reject_log_error(logger, self.connection_errors)


def _as_bytes(body: Any) -> bytes:
    return body if isinstance(body, bytes) else str(body).encode("utf-8", "backslashreplace")
