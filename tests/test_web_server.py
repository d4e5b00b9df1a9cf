"""The web server as a process, with clients that are slow, stand still or send nonsense: nobody else waits for them."""

from __future__ import annotations

import configparser
import os
import shlex
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection

from annotate.models import Role
from tests.factories import make_member, make_project
from tests.web_server import database_url
from training.models import Download, ModelVersion

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("web server"),
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks into /proc"),
]

IDLE_S, TOTAL_S, UNREAD_S = 2.0, 8.0, 3.0
LARGEST = 2 * 1024 * 1024
FILE_SIZE = 64 * 1024 * 1024
ANSWERED_WITHIN_S = 5.0  # nobody waits for a slow client; how quick the machine is, is not the question
HOST = b"Host: localhost\r\n"
FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"
SLOW_FORM = b"POST /account/login/ HTTP/1.1\r\n" + HOST + FORM + b"Content-Length: 100000\r\n\r\na"
SECURITY_HEADERS = (b"content-security-policy", b"x-content-type-options", b"x-frame-options", b"referrer-policy")


class WebServer:
    """The command of deploy/supervisord.conf, on the test's database."""

    def __init__(self, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        conf = configparser.RawConfigParser()
        conf.read(settings.BASE_DIR / "deploy" / "supervisord.conf")
        command = conf["program:web"]["command"]
        command = command.replace("%(ENV_PYTHON)s", sys.executable).replace("%(ENV_PORT)s", str(self.port))
        environment = os.environ | {
            "DATABASE_URL": database_url(),
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "ROUNDTABLE_BODY_IDLE_S": str(IDLE_S),
            "ROUNDTABLE_BODY_TOTAL_S": str(TOTAL_S),
            "ROUNDTABLE_LARGEST_BODY_BYTES": str(LARGEST),
            "ROUNDTABLE_UNREAD_S": str(UNREAD_S),
        }
        self.log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                shlex.split(command), cwd=settings.BASE_DIR, env=environment, stdout=file, stderr=file
            )
        wait_until(self._answers, within_s=60)

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        with suppress(OSError):
            return page(self) == 200
        return False

    def connect(self, *, buffer: int = 0) -> socket.socket:
        client = socket.socket()
        if buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        client.settimeout(30)
        client.connect(("127.0.0.1", self.port))
        return client

    def ask(self, request: bytes) -> bytes:
        """The whole answer to `request`, head and body."""
        with self.connect() as client:
            client.sendall(request)
            return everything(client)

    def open_files(self) -> list[str]:
        """What the processes of the server have open."""
        found = []
        for pid in [self.process.pid, *children(self.process.pid)]:
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    found.append(str(link.readlink()))
        return found

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def children(pid: int) -> list[int]:
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


def everything(client: socket.socket) -> bytes:
    """What comes until the end of the answer, by its length, or of the connection."""
    answer, wanted = bytearray(), 0
    while piece := client.recv(1 << 20):
        answer += piece
        if not wanted and (head := answer.partition(b"\r\n\r\n"))[1]:
            lengths = [line.split(b":")[1] for line in head[0].split(b"\r\n") if line.startswith(b"content-length:")]
            wanted = len(head[0]) + 4 + int(lengths[0]) if lengths else 0
        if wanted and len(answer) >= wanted:
            break
    return bytes(answer)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def page(server: WebServer) -> int:
    return status(server.ask(b"GET /account/login/ HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"))


def seconds_of_pages(server: WebServer, number: int = 10) -> list[float]:
    took = []
    for _ in range(number):
        began = time.monotonic()
        assert page(server) == 200
        took.append(time.monotonic() - began)
    return took


def wait_until(holds: Callable[[], object], *, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def database_connections(server: WebServer) -> int:
    """How many the web process has open."""
    if connection.vendor == "sqlite":
        return server.open_files().count(str(connection.settings_dict["NAME"]))
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with connection.cursor() as cursor:
        cursor.execute(others)
        return int(cursor.fetchone()[0])


@pytest.fixture(scope="module")
def server(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    started = WebServer(tmp_path_factory.mktemp("web") / "web.log")
    yield started
    started.stop()


@pytest.fixture
def download() -> bytes:
    """A request of an admin for the archive of a model."""
    project = make_project()
    admin = make_member(project, role=Role.ADMIN)
    model = ModelVersion.objects.create(project=project, kind="base", number=1, manifest_sha256="0" * 64)
    packed = Download.objects.create(project=project, model_version=model, status="ready", total=0)
    packed.path.parent.mkdir(parents=True, exist_ok=True)
    with packed.path.open("wb") as file:
        file.truncate(FILE_SIZE)
    session = SessionStore()
    session["_auth_user_id"] = str(admin.user.pk)
    session["_auth_user_backend"] = settings.AUTHENTICATION_BACKENDS[0]
    session["_auth_user_hash"] = admin.user.get_session_auth_hash()
    session.save()
    cookie = f"Cookie: {settings.SESSION_COOKIE_NAME}={session.session_key}\r\n".encode()
    address = f"/projects/{project.slug}/models/downloads/{packed.pk}/".encode()
    return b"GET " + address + b" HTTP/1.1\r\n" + HOST + cookie + b"\r\n"


@contextmanager
def many(server: WebServer, number: int, request: bytes, *, buffer: int = 0) -> Iterator[list[socket.socket]]:
    """Connections that have sent `request` and do nothing more."""
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect(buffer=buffer)) for _ in range(number)]
        for client in clients:
            client.sendall(request)
        yield clients


def archives_open(server: WebServer) -> int:
    return sum(name.endswith(".tar") for name in server.open_files())


def test_a_page_thread_keeps_its_connection_to_the_database(server: WebServer) -> None:
    unknown = b"GET /api/v1/projects/ HTTP/1.1\r\n" + HOST + b"Authorization: Bearer none\r\n\r\n"
    assert status(server.ask(unknown)) == 401  # once it has looked for the token
    assert database_connections(server)


def test_slow_uploads_and_stalled_downloads_hold_nobody_up(server: WebServer, download: bytes) -> None:
    with many(server, 8, download, buffer=4096), many(server, 8, SLOW_FORM) as uploads:
        wait_until(lambda: archives_open(server) == 8, within_s=10)
        took = []
        for _ in range(4):
            for client in uploads:
                client.sendall(b"a")
            took += seconds_of_pages(server, 5)
            time.sleep(0.5)
        print(f"pages: median {statistics.median(took) * 1000:.0f} ms, slowest {max(took) * 1000:.0f} ms")
        assert max(took) < ANSWERED_WITHIN_S
    wait_until(lambda: archives_open(server) == 0, within_s=20)


def test_an_upload_that_stops_and_one_that_drips_for_too_long_are_told_so(server: WebServer) -> None:
    began = time.monotonic()
    answers = [server.ask(SLOW_FORM)]
    assert IDLE_S <= time.monotonic() - began < TOTAL_S
    began = time.monotonic()
    with many(server, 1, SLOW_FORM) as (dripping,):
        answers.append(b"".join(drip(dripping)))
    assert TOTAL_S <= time.monotonic() - began < TOTAL_S + 10
    for answer in answers:
        assert status(answer) == 408
        assert b"did not finish in time" in answer
        assert all(header in answer for header in SECURITY_HEADERS)


def drip(client: socket.socket) -> Iterator[bytes]:
    """Send a byte now and then until an answer comes."""
    client.settimeout(0.5)
    while True:
        try:
            yield client.recv(1 << 16)
            return
        except TimeoutError:
            client.send(b"a")


@pytest.mark.parametrize("path", [b"/account/login/", b"/api/v1/projects/"])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_that_is_too_large_is_refused_before_all_of_it_has_come(
    server: WebServer, path: bytes, is_chunked: bool
) -> None:
    length = b"Transfer-Encoding: chunked\r\n" if is_chunked else b"Content-Length: 99999999999\r\n"
    piece = b"100000\r\n" + b"a" * 0x100000 + b"\r\n" if is_chunked else b"a" * 0x100000
    answer = server.ask(b"POST " + path + b" HTTP/1.1\r\n" + HOST + FORM + length + b"\r\n" + piece * 3)
    assert status(answer) == 413
    assert b"Send it in smaller parts" in answer
    assert all(header in answer for header in SECURITY_HEADERS)


def test_who_asks_first_whether_to_send_is_told_at_once(server: WebServer) -> None:
    began = time.monotonic()
    expect = b"Expect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n"
    assert status(server.ask(b"POST /account/login/ HTTP/1.1\r\n" + HOST + FORM + expect)) == 413
    assert time.monotonic() - began < IDLE_S


def test_a_body_in_chunks_without_a_length_is_read_like_any_other(server: WebServer) -> None:
    csrf = b"Cookie: csrftoken=" + b"a" * 32 + b"\r\nOrigin: http://localhost\r\nHost: localhost\r\n"
    body = b"csrfmiddlewaretoken=" + b"a" * 32 + b"&login=x&password=y"
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    request = b"POST /account/login/ HTTP/1.1\r\n" + csrf + FORM + b"Transfer-Encoding: chunked\r\n\r\n"
    answer = server.ask(request + chunks)
    assert b"valid email" in answer or b"valid e-mail" in answer, answer.decode()


def test_chunks_that_are_none_and_a_body_that_ends_early_leave_nothing_behind(server: WebServer) -> None:
    nonsense = b"POST /account/login/ HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n"
    answer = server.ask(nonsense)
    assert status(answer) == 400
    assert all(header in answer for header in SECURITY_HEADERS)
    with many(server, 8, SLOW_FORM + b"a" * 90_000):
        wait_until(lambda: sum("(deleted)" in name for name in server.open_files()) >= 8, within_s=10)
    wait_until(lambda: not any("(deleted)" in name for name in server.open_files()), within_s=5)
    assert page(server) == 200


def test_hundreds_of_idle_connections_and_of_half_sent_headers_hold_nobody_up(server: WebServer) -> None:
    with many(server, 500, b"") as idle, many(server, 300, b"GET / HTTP/1.1\r\nHo") as slow:
        took = seconds_of_pages(server)
        print(f"pages: median {statistics.median(took) * 1000:.0f} ms, slowest {max(took) * 1000:.0f} ms")
        assert max(took) < ANSWERED_WITHIN_S
        assert [client.recv(1) for client in (idle[0], idle[-1], slow[0], slow[-1])] == [b""] * 4  # hung up on


def test_a_download_comes_whole_and_one_that_nobody_reads_is_dropped(server: WebServer, download: bytes) -> None:
    answer = server.ask(download)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert (status(answer), len(body)) == (200, FILE_SIZE)
    assert b"attachment" in head
    with many(server, 4, download, buffer=4096):
        wait_until(lambda: archives_open(server) == 4, within_s=10)
        wait_until(lambda: archives_open(server) == 0, within_s=UNREAD_S + 20)


def test_a_header_with_underscores_is_not_the_one_that_a_proxy_vouches_for(server: WebServer) -> None:
    request = b"GET /account/login/ HTTP/1.1\r\n" + HOST + b"X_Forwarded_Proto: https\r\nContent_Length: 5\r\n\r\n"
    assert status(server.ask(request)) == 200


@pytest.mark.parametrize("charset", [b"utf-16", b"hex", b"unheard-of"])
def test_a_body_in_another_charset_is_refused_by_a_sentence(server: WebServer, charset: bytes) -> None:
    kind = b"Content-Type: application/x-www-form-urlencoded; charset=" + charset + b"\r\nContent-Length: 7\r\n\r\n"
    answer = server.ask(b"POST /account/login/?next=/ HTTP/1.1\r\n" + HOST + kind + b"login=a")
    assert status(answer) == 415
    assert b"Send it as UTF-8" in answer
    assert all(header in answer for header in SECURITY_HEADERS)
