"""Anybody who reaches the broker may leave anything there: it is logged and set aside, and the next message is done."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from django.conf import settings
from django.utils import timezone

from annotate.models import Assignment, Kind
from tests.factories import make_assignment, make_member
from tests.faults.processes import Processes, wait_until

pytestmark = pytest.mark.slow

QUEUE = "default"
NO_MESSAGES = [
    b"",
    b"garbage",
    b"\xff\xfe\x00",
    b"[" * 100_000,
    b"null",
    b'"text"',
    b"{}",
    b'{"properties": {"delivery_tag": "1"}}',
    b'{"properties": {"delivery_tag": 1, "delivery_info": {"exchange": "", "routing_key": ""}}, "body": "x"}',
    b'{"__type__": "uuid", "__value__": {"hex": 1}}',
]


class Broker:
    """The queue of the test's broker, from outside of Celery: a folder, or a list in Redis."""

    folder = Path(settings.CELERY_BROKER_TRANSPORT_OPTIONS["folder"])
    number = 0

    def put(self, content: bytes) -> None:
        """Behind all that is there."""
        if settings.REDIS_URL:
            with current_app.connection_for_write() as connection:
                connection.default_channel.client.lpush(QUEUE, content)
        else:
            self.number += 1
            queue = self.folder / QUEUE
            queue.mkdir(parents=True, exist_ok=True)
            (queue / f"{self.number:020d}-test.json").write_bytes(content)

    def take(self) -> dict[str, Any]:
        """The only message."""
        if settings.REDIS_URL:
            with current_app.connection_for_write() as connection:
                return json.loads(connection.default_channel.client.rpop(QUEUE))
        [path] = (self.folder / QUEUE).iterdir()
        content = json.loads(path.read_bytes())
        path.unlink()
        return content

    def set_aside(self) -> list[bytes]:
        return [path.read_bytes() for path in (self.folder / "unreadable").glob("*")]


@pytest.fixture
def broker(processes: Processes) -> Broker:
    return Broker()


def spoilt(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Messages that are whole, and that no task of ours can take."""
    changes: list[dict[str, Any]] = [
        {"content-type": "application/x-python-serialize", "content-encoding": "binary"},
        {"content-type": "text/unheard-of"},
        {"headers": {}},
        {"headers": None},
        {"headers": [1, 2]},
        {"headers": message["headers"] | {"task": "training.no_such.v1"}},
        {"headers": message["headers"] | {"task": ["a", "list"]}},
        {"headers": message["headers"] | {"id": None}},
        {"headers": {"task": message["headers"]["task"]}},
        {"headers": message["headers"] | {"expires": "whenever"}},
        {"headers": message["headers"] | {"timelimit": 7}},
        {"headers": message["headers"] | {"compression": "no-such-compression"}},
        {"body": as_body("not json", raw=True)},
        {"body": as_body({"task": "a dictionary"})},
        {"body": as_body([[], {}])},
        {"body": as_body([["one argument too many"], {}, {}])},
        {"body": as_body([[], {"unheard_of": 1}, {}])},
        {"body": as_body(["", [], {}])},
        {"body": None},
        {"body": "%% no base64 %%"},
    ]
    for change in changes:
        yield copy.deepcopy(message) | change


def as_body(content: object, *, raw: bool = False) -> str:
    return base64.b64encode((str(content) if raw else json.dumps(content)).encode()).decode()


def test_whatever_lies_in_the_queue_the_worker_does_the_next_message(processes: Processes, broker: Broker) -> None:
    current_app.send_task("training.reconcile.v1", queue=QUEUE)
    message = broker.take()
    silent = make_assignment(make_member(), Kind.DEMONSTRATION)
    Assignment.objects.update(lease_until=timezone.now() - timedelta(hours=1))
    garbage = [*NO_MESSAGES, *(json.dumps(each).encode() for each in spoilt(message))]
    for content in garbage:
        broker.put(content)
    broker.put(json.dumps(message).encode())
    worker = processes.worker(QUEUE)

    wait_until(lambda: Assignment.objects.get(pk=silent.pk).status == Assignment.Status.EXPIRED, within=90)
    assert worker.poll() is None
    assert len(broker.set_aside()) == len(garbage)
    log = "".join(path.read_text("utf-8") for path in processes.logs.glob("*.log"))
    assert log.count("has been moved to") == len(garbage)
    assert "there is no task 'training.no_such.v1'" in log
