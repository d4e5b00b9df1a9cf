"""Bytes become records: JSON Lines or a JSON list, as a stream. What a record says: `conversations`.

Pages and API read in the same way. The bytes are read twice: first to see that all of them are UTF-8, so that nothing
of a file in another encoding is taken; then record by record, so that memory does not grow with the file.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, NamedTuple

from django.utils.translation import gettext as _

from annotate.services.importing.encodings import refuse_other_than_utf8

CHUNK = 1 << 16  # characters
RECORD_LIMIT = 4_000_000  # characters of one line, or one item of a list
MOST_RECORDS = 1_000_000  # lines of a file, or items of a list
INTEGER_LIMIT = 300  # digits; what Python and every database read as a number
WHITE_SPACE = " \t\r\n"


class Unreadable(Exception):
    """A file of which nothing can be read; the message says why."""


class NotJSON(Unreadable):
    """A file of something else: plain lines, or a table."""


@dataclass(frozen=True)
class Record:
    """One line of an import, or one item of a list: parsed JSON, or the sentence why it is none."""

    line: int
    body: Any
    error: str = ""
    ends: bool = False  # what follows was not read, for the reason in `error`


class Source(NamedTuple):
    """What is to be imported; `is_list`: its records are numbered as items of a list, not as lines of a file."""

    records: Iterator[Record]
    is_list: bool = False


def read(stream: IO[bytes]) -> Source:
    """The records of `stream`, which can be read twice. Raises Unreadable or NotUTF8 before the first one."""
    refuse_other_than_utf8(stream)
    stream.seek(0)
    text = io.TextIOWrapper(stream, encoding="utf-8-sig")  # every kind of line end becomes LF
    window = _Window(text)
    first = window.peek()
    if not first:
        raise Unreadable(_("It contains only white space."))
    if first == "[":
        return Source(_items(window), is_list=True)
    if first != "{":
        raise NotJSON(_('It does not begin with a JSON object. Write each prompt on its own line as {"text": "…"}.'))
    text.seek(0)
    return Source(_lines(text))


def _lines(text: IO[str]) -> Iterator[Record]:
    decoder = _Decoder()
    number = 0
    while line := text.readline(RECORD_LIMIT + 1):
        number += 1
        if number > MOST_RECORDS:
            yield _too_many(number)
            return
        if len(line) > RECORD_LIMIT:
            while line and not line.endswith("\n"):
                line = text.readline(RECORD_LIMIT)
            yield Record(number, None, _too_long())
        elif line.strip(WHITE_SPACE):
            yield _parsed(decoder, number, line)


def _parsed(decoder: _Decoder, number: int, line: str) -> Record:
    start = len(line) - len(line.lstrip(WHITE_SPACE))
    try:
        body, end = decoder.decode(line, start)
    except RecursionError:
        return Record(number, None, _("The JSON is nested too deeply."))
    except ValueError as error:
        return Record(number, None, _no_json(getattr(error, "pos", start) + 1))
    if rest := line[end:].lstrip(WHITE_SPACE):
        return Record(number, None, _no_json(len(line) - len(rest) + 1))
    return Record(number, body, decoder.complaint)


def _items(window: _Window) -> Iterator[Record]:
    """The items of the list that `window` stands before."""
    decoder = _Decoder()
    window.at += 1
    number = 0
    while window.peek() != "]":
        number += 1
        if number > MOST_RECORDS:
            yield _too_many(number)
            return
        if number > 1:
            if window.peek() != ",":
                yield _broken(number)
                return
            window.at += 1
            window.peek()
        record = _item(decoder, window, number)
        yield record
        if record.ends:
            return
    window.at += 1
    if window.peek():
        more = _("There is more after the end of the list, and it was not read. Put it into a separate file.")
        yield Record(number + 1, None, more, ends=True)


def _item(decoder: _Decoder, window: _Window, number: int) -> Record:
    while True:
        try:
            body, end = decoder.decode(window.text, window.at)
        except RecursionError:
            nested = _("Item %d of the list is nested too deeply. Nothing from there on was read.") % number
            return Record(number, None, nested, ends=True)
        except ValueError:
            if window.is_at_end or len(window.text) - window.at > RECORD_LIMIT:
                return _broken(number)
        else:
            if end < len(window.text) or window.is_at_end:
                is_too_long = end - window.at > RECORD_LIMIT
                window.at = end
                return Record(number, body, _too_long() if is_too_long else decoder.complaint)
        window.grow()


class _Window:
    """The part of a text that is being read; what lies behind `at` is forgotten when it grows."""

    def __init__(self, source: IO[str]) -> None:
        self._source = source
        self.text = ""
        self.at = 0
        self.is_at_end = False

    def grow(self) -> None:
        unread = self.text[self.at :]
        # As much again: an item is parsed from its start after each growth, all attempts together cost twice the last.
        added = self._source.read(max(CHUNK, len(unread)))
        self.text, self.at, self.is_at_end = unread + added, 0, not added

    def peek(self) -> str:
        """The next character that is no white space, where it now stands; empty at the end."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in WHITE_SPACE:
                self.at += 1
            if self.at < len(self.text) or self.is_at_end:
                return self.text[self.at : self.at + 1]
            self.grow()


class _Decoder:
    """JSON by the standard, which Python's own reader is too kind for; `complaint` is about what was decoded last."""

    def __init__(self) -> None:
        self.complaint = ""
        self._json = json.JSONDecoder(
            object_pairs_hook=self._object, parse_constant=self._constant, parse_int=self._integer
        )

    def decode(self, text: str, start: int) -> tuple[Any, int]:
        """The value that begins at `start`, and where it ends. Raises ValueError or RecursionError."""
        self.complaint = ""
        return self._json.raw_decode(text, start)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        body = dict(pairs)
        if len(body) < len(pairs):
            doubled = Counter(key for key, _value in pairs).most_common(1)[0][0]
            self.complaint = _("“%s” occurs twice. Keep one of them.") % doubled[:100]
        return body

    def _constant(self, name: str) -> None:
        self.complaint = _("%s is not valid JSON. Use a number or null.") % name

    def _integer(self, digits: str) -> int:
        if len(digits) <= INTEGER_LIMIT:
            return int(digits)
        self.complaint = _("A number has more than %d digits.") % INTEGER_LIMIT
        return 0


def _no_json(character: int) -> str:
    return _("Invalid JSON at character %d of this line. Put each prompt on its own line.") % character


def _too_long() -> str:
    return _("This is longer than %s characters, the limit for one prompt.") % f"{RECORD_LIMIT:,}"


def _too_many(number: int) -> Record:
    sentence = _("There are more than %s prompts. The rest was not read; put it into a separate file.")
    return Record(number, None, sentence % f"{MOST_RECORDS:,}", ends=True)


def _broken(number: int) -> Record:
    sentence = _(
        "Invalid JSON in item %d of the list. Nothing from there on was read. Correct it and add the list again; "
        "existing prompts are recognised."
    )
    return Record(number, None, sentence % number, ends=True)
