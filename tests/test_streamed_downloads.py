"""Exports over the wire: made while they are sent, never cut without a sign, and nobody waits for a slow client."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from annotate.models import Prompt, Role
from tests.factories import make_member, make_project, make_token
from tests.test_web_server import (
    ANSWERED_WITHIN_S,
    HOST,
    UNREAD_S,
    WebServer,
    many,
    page,
    seconds_of_pages,
    server,
    status,
    wait_until,
)
from training.models import Round, Snapshot

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("web server"),
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks into /proc"),
]
__all__ = ["server"]

PROMPTS, LENGTH = 600, 60_000  # far more than a connection takes that nobody reads from


@pytest.fixture
def export() -> bytes:
    """A request of a project admin for 600 prompts of 60,000 characters, up to its version of HTTP."""
    project = make_project()
    admin = make_member(project, role=Role.ADMIN)
    Prompt.objects.bulk_create(
        Prompt(
            project=project,
            messages=[{"role": "user", "content": "x" * LENGTH}],
            text_hash=str(number),
            folded_hash=str(number),
            group=str(number),
            split="train",
        )
        for number in range(PROMPTS)
    )
    snapshot = Snapshot.objects.create(project=project, files={"prompts.jsonl": {}}, counts={}, sha256="0" * 64)
    snapshot.directory.mkdir(parents=True)
    ids = [json.dumps({"id": pk}) for pk in Prompt.objects.order_by("pk").values_list("pk", flat=True)]
    (snapshot.directory / "prompts.jsonl").write_text("\n".join([*ids, "this is no record"]))
    Round.objects.create(project=project, number=1, plan={}, snapshot=snapshot)
    address = f"/api/v1/projects/{project.slug}/export/prompts/"
    header = f"Authorization: Bearer {make_token(admin.user)}\r\n"
    return b"GET " + address.encode() + b"%b HTTP/%b\r\n" + HOST + header.encode() + b"Connection: close\r\n\r\n"


BROKEN = b"?snapshot=1"  # its file ends in what is no record: that is found out half-way


def test_a_whole_file_has_its_end_and_a_broken_one_does_not(server: WebServer, export: bytes) -> None:
    whole = server.ask(export % (b"", b"1.1"))
    assert status(whole) == 200
    assert whole.count(b'"prompt_id"') == PROMPTS
    assert whole.endswith(b"0\r\n\r\n")
    cut = server.ask(export % (BROKEN, b"1.1"))
    assert status(cut) == 200
    assert 0 < cut.count(b'"prompt_id"') < PROMPTS
    assert not cut.endswith(b"0\r\n\r\n")


def test_over_http_1_0_the_length_says_what_is_whole(server: WebServer, export: bytes) -> None:
    head, _, body = server.ask(export % (b"", b"1.0")).partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head
    assert body.count(b"\n") == PROMPTS
    assert status(server.ask(export % (BROKEN, b"1.0"))) == 500


def test_exports_that_nobody_reads_hold_nobody_up_and_are_dropped(server: WebServer, export: bytes) -> None:
    request = export % (b"", b"1.1")
    with many(server, 8, request, buffer=4096):
        took = seconds_of_pages(server, 20)
        print(f"pages: slowest {max(took) * 1000:.0f} ms")
        assert max(took) < ANSWERED_WITHIN_S
        wait_until(lambda: connections(server) == 0, within_s=UNREAD_S + 30)
    assert page(server) == 200


def test_what_nobody_waits_for_any_more_is_not_made(server: WebServer, export: bytes) -> None:
    reached_the_end = server.log.read_text(errors="replace").count("JSONDecodeError")
    with server.connect() as client:
        client.sendall(export % (BROKEN, b"1.1"))
        assert client.recv(1000)
    wait_until(lambda: connections(server) == 0, within_s=10)
    time.sleep(2)  # more than the rest would take
    assert server.log.read_text(errors="replace").count("JSONDecodeError") == reached_the_end


def connections(server: WebServer) -> int:
    """How many clients the server still serves."""
    port = f":{server.port:04X} "
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(1 for row in rows if f"{row[1]} ".endswith(port) and row[3] in ("01", "08"))
