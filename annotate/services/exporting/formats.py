"""The two kinds of file: JSON Lines for programs, CSV for spreadsheets."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

Record = dict[str, Any]

PIECE = 256 * 1024  # characters that are sent at once
# A spreadsheet takes a cell that begins with one of these for a formula, and runs it. The apostrophe is here so that
# what was put before a cell can be told from what someone wrote.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "'")


class Format(NamedTuple):
    content_type: str
    encode: Callable[[Sequence[str], Iterable[Record]], Iterator[str]]  # columns, records: the file's text in pieces


def encode_json_lines(columns: Sequence[str], records: Iterable[Record]) -> Iterator[str]:
    """An object a line."""
    encode = json.JSONEncoder(ensure_ascii=False).encode
    lines: list[str] = []
    size = 0
    for record in records:
        lines.append(encode({name: record[name] for name in columns}) + "\n")
        size += len(lines[-1])
        if size >= PIECE:
            yield "".join(lines)
            lines, size = [], 0
    if lines:
        yield "".join(lines)


def encode_csv(columns: Sequence[str], records: Iterable[Record]) -> Iterator[str]:
    """A row each, below the columns' names. Lists are JSON; what a spreadsheet could run begins with an apostrophe."""
    text = io.StringIO(newline="")
    text.write("\N{ZERO WIDTH NO-BREAK SPACE}")  # the byte order mark: Excel reads UTF-8 by it alone
    writer = csv.writer(text)
    writer.writerow(columns)
    for record in records:
        writer.writerow([_cell(record[name]) for name in columns])
        if text.tell() >= PIECE:
            yield text.getvalue()
            text.seek(0)
            text.truncate()
    yield text.getvalue()


FORMATS = {
    "jsonl": Format("application/jsonl", encode_json_lines),
    "csv": Format("text/csv; charset=utf-8", encode_csv),
}


def _cell(value: Any) -> str | int:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"'{text}" if text.startswith(FORMULA) else text
