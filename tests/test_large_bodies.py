"""Large bodies through the real web server: imports up to their own limits, nothing else, and not too many at once."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.core.wsgi import get_wsgi_application
from django.test import Client
from pytest_django import Settings

from annotate.models import Member, Prompt, Role
from config.asgi import Application
from tests.factories import make_member, make_token
from tests.test_web_server import (
    FORM,
    HOST,
    SECURITY_HEADERS,
    WebServer,
    children,
    everything,
    many,
    page,
    status,
    wait_until,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("web server"),
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks into /proc"),
]

MB = 1024 * 1024
LINES = 300
LINE = MB // 2  # bytes; 150 MB altogether
BOUNDARY = b"x1234567890"


@pytest.fixture(scope="module")
def server(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    started = WebServer(tmp_path_factory.mktemp("web") / "web.log")
    yield started
    started.stop()


@pytest.fixture
def admin() -> Member:
    return make_member(role=Role.ADMIN)


def line(number: int) -> bytes:
    return b'{"text": "Question %d?"}'.ljust(LINE - 10) % number + b"\n"


def api_head(admin: Member, *, length: int, token: str = "") -> bytes:
    path = f"/api/v1/projects/{admin.project.slug}/prompts/".encode()
    authorization = f"Authorization: Bearer {token or make_token(admin.user, 'admin')}\r\n".encode()
    rest = b"Content-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n" % length
    return b"POST " + path + b" HTTP/1.1\r\n" + HOST + authorization + rest


def memory_peak(server: WebServer) -> int:
    """In bytes, of the process that answers."""
    found = [Path(f"/proc/{pid}/status").read_text() for pid in children(server.process.pid)]
    return max(int(re.search(r"VmHWM:\s+(\d+)", text)[1]) for text in found) * 1024  # type: ignore[index]


def test_150_megabytes_of_prompts_come_in_by_the_api_and_memory_stays_flat(server: WebServer, admin: Member) -> None:
    page(server)
    before = memory_peak(server)
    lines = [line(number) for number in range(LINES)]
    with server.connect() as client:
        client.settimeout(120)
        client.sendall(api_head(admin, length=sum(map(len, lines))))
        for each in lines:
            client.sendall(each)
        answer = everything(client)
    assert status(answer) == 200, answer[:2000]
    report = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert (report["created"], report["rejected_count"]) == (LINES, 0)
    assert memory_peak(server) - before < 60 * MB
    wait_until(lambda: not any("incoming" in name for name in server.open_files()), within_s=5)


def test_a_file_of_70_megabytes_comes_in_by_the_form(server: WebServer, admin: Member) -> None:
    lines = b"".join(line(number) for number in range(140))
    answer = send_form(server, admin, b'name="file"; filename="a.jsonl"', lines)
    assert status(answer) == 200, answer[:2000]
    assert admin.project.prompts.count() == 140


def test_a_file_above_100_megabytes_is_refused_by_the_forms_own_sentence(server: WebServer, admin: Member) -> None:
    answer = send_form(server, admin, b'name="file"; filename="a.jsonl"', b" " * (101 * MB))
    assert status(answer) == 422
    assert b"larger than 100 MB" in answer
    assert not Prompt.objects.exists()


def test_a_paste_above_10_megabytes_is_refused_by_a_sentence_that_names_the_way(
    server: WebServer, admin: Member, client: Client
) -> None:
    answer = send_form(server, admin, b'name="paste"', b"Why?\n" * (11 * MB // 5))
    assert status(answer) == 413
    assert b"up to 10 MB of text" in answer
    assert b"upload a file" in answer
    assert all(header in answer for header in SECURITY_HEADERS)
    assert not Prompt.objects.exists()


def test_even_an_import_has_an_end(server: WebServer, admin: Member) -> None:
    expecting = api_head(admin, length=300 * MB).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
    assert status(server.ask(expecting)) == 413


def test_too_many_long_bodies_are_refused_and_short_ones_go_on(server: WebServer, admin: Member) -> None:
    token = make_token(admin.user, "admin")
    head = api_head(admin, length=250 * MB, token=token)
    with many(server, 3, head) as clients:
        for _ in range(43):  # 3 * 43 * 4 MB > 512 MB
            for client in clients:
                client.sendall(b" " * (4 * MB))
        short = b"POST /account/login/ HTTP/1.1\r\n" + HOST + FORM + b"Content-Length: 1\r\n\r\na"
        assert status(server.ask(short)) == 403  # what the page says to whoever has no token of its form
        answers = [everything(client) for client in clients]
    assert sorted(status(answer) for answer in answers) == [408, 408, 503]
    refused = next(answer for answer in answers if status(answer) == 503)
    assert b"Other people are uploading large files" in refused
    assert all(header in refused for header in SECURITY_HEADERS)
    question = line(1)
    assert status(server.ask(api_head(admin, length=len(question), token=token) + question)) == 200


def test_a_disk_without_room_is_a_sentence_and_no_defect(settings: Settings, tmp_path: Path) -> None:
    """A folder that is gone fails as a full one does: at the first byte that does not fit into memory."""
    settings.SPOOL_DIR = tmp_path / "gone"
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "query_string": b"",
        "raw_path": b"/account/login/", "headers": [(b"host", b"localhost"), (b"content-length", b"100000")],
    }  # fmt: skip
    pieces, sent = [b"", b"a" * 100_000], list[dict[str, Any]]()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": pieces.pop(), "more_body": bool(pieces)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    with ThreadPoolExecutor(1) as own:  # a browser test before this one may have left its loop in our thread
        own.submit(asyncio.run, Application(get_wsgi_application())(scope, receive, send)).result()
    assert sent[0]["status"] == 507
    assert b"the disk is full" in sent[1]["body"]
    assert {header.decode() for header in SECURITY_HEADERS} <= {name.decode() for name, _ in sent[0]["headers"]}


def send_form(server: WebServer, admin: Member, disposition: bytes, content: bytes) -> bytes:
    """The answer to a form with one field, from a browser in which `admin` is signed in."""
    browser = Client()
    browser.force_login(admin.user)
    session = browser.session
    assert isinstance(session, SessionStore)
    token = b"a" * 32
    parts = b'--%b\r\nContent-Disposition: form-data; name="csrfmiddlewaretoken"\r\n\r\n%b\r\n' % (BOUNDARY, token)
    parts += b"--%b\r\nContent-Disposition: form-data; %b\r\n\r\n" % (BOUNDARY, disposition)
    end = b"\r\n--%b--\r\n" % BOUNDARY
    cookies = b"Cookie: csrftoken=%b; sessionid=%b\r\nOrigin: http://localhost\r\n" % (
        token,
        str(session.session_key).encode(),
    )
    kind = b"Content-Type: multipart/form-data; boundary=%b\r\n" % BOUNDARY
    length = b"Content-Length: %d\r\n\r\n" % (len(parts) + len(content) + len(end))
    path = f"/projects/{admin.project.slug}/prompts/add/".encode()
    with server.connect() as client:
        client.sendall(b"POST " + path + b" HTTP/1.1\r\n" + HOST + cookies + kind + length + parts + content + end)
        return everything(client)
