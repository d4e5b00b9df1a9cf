"""Whether bytes are UTF-8, and if not, what they look like: the message says how to save the file instead."""

from __future__ import annotations

import codecs
import re
from typing import IO

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

CHUNK = 1 << 20  # bytes
ARCHIVES = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
# The longer marks first: that of UTF-32 LE begins like that of UTF-16 LE.
MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32 LE",
    codecs.BOM_UTF32_BE: "UTF-32 BE",
    codecs.BOM_UTF16_LE: "UTF-16 LE",
    codecs.BOM_UTF16_BE: "UTF-16 BE",
}
# Where the zero bytes of the first ASCII characters stand, as in RFC 4627, section 3.
ZEROS: dict[tuple[bool, ...], str] = {
    (False, True, True, True): "UTF-32 LE",
    (True, True, True, False): "UTF-32 BE",
    (False, True, False, True): "UTF-16 LE",
    (True, False, True, False): "UTF-16 BE",
}
HALVES = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
ALONE = re.compile(rb"(?<![\x80-\xff])[\x80-\xff](?![\x80-\xff])")
HIGH = re.compile(rb"[\x80-\xff]")
CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")

SAVE_AS_UTF8 = gettext_lazy("Save it as UTF-8 and try again. Nothing was added.")


class NotUTF8(Exception):
    """Bytes that are no UTF-8; the message says what they look like and what to do."""


def refuse_other_than_utf8(stream: IO[bytes]) -> None:
    """Read all of `stream`, with a byte order mark or without. Raises NotUTF8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    tail, lines = b"", 1
    while chunk := stream.read(CHUNK):
        if not tail:
            _refuse_other_kinds(chunk)
        try:
            decoder.decode(chunk)
        except UnicodeDecodeError as error:
            seen = tail + chunk
            at = error.start + len(chunk) - len(error.object)  # the decoder puts in front what the last chunk left over
            raise NotUTF8(_no_utf8(seen, line=lines + chunk[: max(at, 0)].count(b"\n"))) from None
        tail = chunk[-8:]
        lines += chunk.count(b"\n")
    if decoder.getstate()[0]:
        raise NotUTF8(
            _(
                "The file ends in the middle of a character, so it is incomplete. Upload the complete file. Nothing "
                "was added."
            )
        )


def _refuse_other_kinds(head: bytes) -> None:
    for magic, name in ARCHIVES.items():
        if head.startswith(magic):
            raise NotUTF8(_("This looks like a %s archive. Unpack it and add the files inside.") % name)
    for mark, name in MARKS.items():
        if head.startswith(mark):
            raise NotUTF8(_looks_like(name))
    start = head.lstrip(b"\r\n\t ")[:4] if b"\x00" not in head[:4] else head[:4]
    if name := ZEROS.get(tuple(byte == 0 for byte in start), ""):
        raise NotUTF8(_looks_like(name))


def _no_utf8(seen: bytes, *, line: int) -> str:
    """What `seen`, which is no UTF-8 in `line`, looks like."""
    if len(CONTROLS.findall(seen)) > len(seen) / 50:
        return _("This looks like a binary file. Prompts must be JSON Lines or a JSON list, in UTF-8.")
    if HALVES.search(seen):
        return _looks_like(_("CESU-8, which encodes surrogate pairs separately"), line=line)
    if len(ALONE.findall(seen)) > len(HIGH.findall(seen)) / 2:
        return _looks_like(_("Latin-1 or Windows-1252"), line=line)
    return _looks_like(_("an older encoding, such as Shift JIS or GBK"), line=line)


def _looks_like(name: str, *, line: int = 1) -> str:
    return (
        _("This is not UTF-8 (line %(line)d): it looks like %(encoding)s.") % {"line": line, "encoding": name}
        + f" {SAVE_AS_UTF8}"
    )
