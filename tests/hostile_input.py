"""What hostile or broken clients send: values, bodies, headers, and where on the site they can be put."""

from __future__ import annotations

import re
from base64 import b64encode
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote_from_bytes

from django.conf import settings
from django.http import HttpResponse
from django.test import Client

from config.bodies import utf8_only

VALUES: list[bytes] = [
    b"",
    b"\0",
    b"a\0b",
    b"\xff\xfe",
    b"\xed\xa0\x80",  # a lone surrogate
    b"\xe2\x80\xae\x0b\x0c\x7f\x1b[31m",
    b"%00%zz",
    b"-1",
    b"0",
    b"9" * 18,
    b"9" * 19,
    b"9" * 400,
    b"1e400",
    b"NaN",
    b"-Infinity",
    b"1_000",
    b" 7 ",
    b"0x10",
    "٣".encode(),
    "²".encode(),
    "１".encode(),
    b"true",
    b"null",
    b"2026-13-45T99:99:99",
    b"00000000-0000-0000-0000-000000000000",
    b"' OR 1=1 --",
    b"<script>",
    b"..%2f../etc/passwd",
    b"//evil.example",
    b"https://evil.example/",
    b"password__startswith",
    b"[" * 5000,
    b'{"a":' * 5000,
    b"a" * 200_000,
    "ä".encode() * 100_000,
]

CURSORS: list[bytes] = [  # with a position where no id can be, before they are encoded
    b"p=", b"p=abc", b"p=1.5", b"p=-1", b"p=+1", b"p=1_0", b"p=%D9%A3", b"p=\0", b"p=%00", b"p=" + b"9" * 20,
    b"p=" + b"9" * 4400, b"r=1&p=x", b"o=5&p=x", b"r=x", b"o=x", b"o=-1",
]  # fmt: skip
VALUES += [b64encode(cursor) for cursor in CURSORS]


def nested(levels: int) -> list[object]:
    return [nested(levels - 1)] if levels > 1 else []


JSON_VALUES: list[object] = [
    None, True, -1, 0, 2**31, 2**63, 2**64, 10**400, 1e308, "", "\0", "a\0b", "\ud800", "٣", "²", "9" * 400,
    "a" * 200_000, [], {}, [[]], [None], {"a": None}, {"\0": "\0"}, {"\ud800": 1}, [0] * 5000, {"٣": 1},
    {"1": "²"}, {"9" * 400: 1}, {"9" * 5000: 1}, nested(100), nested(600),
]  # fmt: skip

BODIES: list[bytes] = [
    b"", b"\0", b"\xff\xfe\x00", b"null", b"[]", b"7", b'"text"', b"{", b"[" * 100_000, b'{"a":' * 100_000,
    b'{"a": NaN}', b'{"a": 1e400}', b"1" * 5000, b'{"text": "\\ud800"}', b'{"text": "\\u0000"}', b'{"a": 1, "a": 2}',
    '{"text": "a"}'.encode("utf-16"), '{"text": "a"}'.encode("utf-32"), b"\xef\xbb\xbf{}", b"a=b&" * 3000, b"&" * 3000,
    b"--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb\r\n--x--\r\n",
    b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\0b\"\r\n\r\n\0\xff\r\n--x--\r\n",
    b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename*=hex''aa\r\n\r\nb\r\n--x--\r\n",
    b"--x\r\nContent-Disposition: form-data; name=\"a\"\r\nContent-Type: text/plain; charset=hex\r\n\r\nb\r\n--x--\r\n",
    b"--x\r\nContent-Disposition: form-data\r\nContent-Transfer-Encoding: base64\r\n\r\n!\r\n--x",
]  # fmt: skip

CONTENT_TYPES: list[str] = [
    "application/x-www-form-urlencoded",
    "application/x-www-form-urlencoded; charset=utf-16",
    "application/x-www-form-urlencoded; charset=unheard-of",
    "application/x-www-form-urlencoded; charset=zlib",
    "application/json",
    "application/json; charset=utf-16",
    "application/json; charset=unheard-of",
    "application/json; charset=hex",
    "application/x-ndjson",
    "application/x-ndjson; charset=utf-16",
    "application/jsonl",
    "application/jsonl; charset=utf-16",
    "multipart/form-data",
    "multipart/form-data; boundary=x",
    "multipart/form-data; boundary=x; charset=unheard-of",
    "multipart/form-data; boundary=x; charset=hex",
    "multipart/form-data; boundary=\xff",
    "text/plain; charset*=hex''a",
    "text/plain; name*=unheard-of''a",
    "multipart/form-data; boundary=" + "x" * 300,
    "text/plain",
    "text/xml",
    "nothing",
    "",
]

HEADERS: list[str] = [  # not Content-Length: the web process counts for itself
    "Accept", "Accept-Language", "Accept-Encoding", "Authorization", "Cookie", "HX-Request",
    "HX-Current-URL", "HX-Target", "If-None-Match", "If-Modified-Since", "Origin", "Range", "Referer", "User-Agent",
    "X-Forwarded-For", "X-Forwarded-Proto", "X-CSRFToken", "X-HTTP-Method-Override", "Host",
]  # fmt: skip

COOKIES: list[str] = [settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME, "theme", "messages", "django_language"]


class WSGIClient(Client):
    """Sends requests as the web process hands them to Django; an exception in a view becomes a 500."""

    def __init__(self) -> None:
        super().__init__(raise_request_exception=False)

    def request(self, **environ: object) -> HttpResponse:
        return super().request(**utf8_only(environ))


class Fields(HTMLParser):
    """The names of what a page's forms send, with the values that stand in them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        if tag in ("input", "select", "textarea", "button") and said.get("name"):
            self.found.setdefault(str(said["name"]), said.get("value") or "")


def names_read(method: str) -> list[str]:
    """What views look up by name in the query or in a form, whether or not a page shows it."""
    pattern = re.compile(rf'\.{method}(?:\.get|\.getlist|\.pop)?[(\[]"([^"]+)"')
    sources = [path for app in ("annotate", "training") for path in Path(settings.BASE_DIR, app).rglob("*.py")]
    return sorted({name for path in sources for name in pattern.findall(path.read_text("utf-8"))})


def form_body(fields: dict[str, bytes]) -> bytes:
    return b"&".join(quote_from_bytes(name.encode()).encode() + b"=" + escaped(value) for name, value in fields.items())


def multipart_body(fields: dict[str, bytes], *, files: tuple[str, ...] = ("file",)) -> bytes:
    parts = []
    for name, value in fields.items():
        file = b'; filename="a.jsonl"' if name in files else b""
        parts.append(b'--x\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n' % (name.encode(), file, value))
    return b"".join(parts) + b"--x--\r\n"


def escaped(value: bytes) -> bytes:
    return quote_from_bytes(value, safe="").encode()
