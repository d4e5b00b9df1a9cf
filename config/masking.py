"""Secrets that come by in log lines are masked there: one-time links, tokens, passwords in addresses, sessions.

What ends a process or a thread is no log line, but ends in the same files by way of stderr: it is masked, too.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import traceback
from collections.abc import Iterable
from types import TracebackType

MASK = "***"
SECRETS = [
    # As an address of ours, as text in a query, and with its slashes escaped.
    (re.compile(r"(account(?:/|%2F)link(?:/|%2F))[^/\s\"'?&<>]+", re.IGNORECASE), rf"\1{MASK}"),
    (re.compile(r"\brt_[\w-]{8,}"), f"rt_{MASK}"),
    (re.compile(r"(://[^\s:/@]*:)[^\s/]*@"), rf"\1{MASK}@"),
    (re.compile(r"\b((?:sessionid|csrftoken|csrfmiddlewaretoken|[\w-]*password\d?)=)[^&;\s\"']+"), rf"\1{MASK}"),
]


def masked(text: str) -> str:
    """`text` without the secrets that can be recognised in it."""
    for pattern, replacement in SECRETS:
        text = pattern.sub(replacement, text)
    return text


class Formatter(logging.Formatter):
    """Masks the whole line, and the traceback below it."""

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


class Masked(logging.Formatter):
    """Another formatter's lines, masked."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self.formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        return masked(self.formatter.format(record))


def mask_handlers(loggers: Iterable[logging.Logger]) -> None:
    """For what others have set up: their lines keep their form."""
    for logger in loggers:
        for handler in logger.handlers:
            if not isinstance(handler.formatter, Formatter | Masked):
                handler.setFormatter(Masked(handler.formatter or logging.Formatter()))


def mask_uncaught() -> None:
    """Uncaught exceptions reach stderr masked, whichever thread they end."""
    sys.excepthook = _print_masked
    threading.excepthook = _print_thread


def _print_masked(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    print(masked("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr, flush=True)


def _print_thread(failure: threading.ExceptHookArgs) -> None:
    if failure.exc_value and not isinstance(failure.exc_value, SystemExit) and sys.stderr:
        name = failure.thread.name if failure.thread else "?"
        print(f"Exception in thread {name}:", file=sys.stderr)
        _print_masked(failure.exc_type, failure.exc_value, failure.exc_traceback)
