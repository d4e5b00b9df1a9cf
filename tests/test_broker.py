"""The embedded broker: whole messages or none, one taker each, and a wiped folder or a torn file stops nobody."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from queue import Empty

import pytest
from kombu import Connection, Exchange, Queue
from kombu.simple import SimpleQueue

from config import broker

ROOT = Path(__file__).resolve().parent.parent
RINGS = Queue("rings", Exchange("rings"), routing_key="rings")


def connect(folder: Path) -> Connection:
    return Connection(f"{broker.SCHEME}://", transport_options={"folder": str(folder)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "broker"


@pytest.fixture
def queue(folder: Path) -> Iterator[SimpleQueue]:
    with connect(folder) as connection, connection.SimpleQueue(RINGS) as queue:
        yield queue


def take(queue: SimpleQueue) -> object:
    message = queue.get(timeout=2)
    message.ack()
    return message.payload


def publish_many(folder: Path, start: int, count: int) -> None:
    with connect(folder) as connection, connection.SimpleQueue(RINGS) as queue:
        for number in range(start, start + count):
            queue.put(number)


def take_until_quiet(folder: Path, results: Path) -> None:
    with connect(folder) as connection, connection.SimpleQueue(RINGS) as queue, results.open("w") as file:
        while True:
            try:
                message = queue.get(timeout=3)
            except Empty:
                return
            message.ack()
            print(message.payload, file=file, flush=True)


def wait_for(happened: Callable[[], object], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_messages_come_out_in_the_order_they_went_in(queue: SimpleQueue) -> None:
    for number in range(20):
        queue.put(number)
    assert [take(queue) for _ in range(20)] == list(range(20))


def test_a_taken_message_is_gone(queue: SimpleQueue, folder: Path) -> None:
    queue.put("once")
    take(queue)
    with pytest.raises(Empty):
        queue.get(timeout=0.3)
    assert list((folder / "rings").iterdir()) == []


def test_the_folder_and_its_messages_are_private(queue: SimpleQueue, folder: Path) -> None:
    queue.put("mine")
    [message] = (folder / "rings").iterdir()
    assert stat.S_IMODE((folder / "rings").stat().st_mode) == 0o700
    assert stat.S_IMODE(message.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b'{"body": "cut o', b"\xff\xfe", b"[1, 2]", b'"text"', b"{}"])
def test_an_unreadable_file_is_set_aside_and_the_next_message_arrives(
    queue: SimpleQueue, folder: Path, content: bytes
) -> None:
    queue.put("good")
    torn = folder / "rings" / "00000000000000000000-torn.json"
    torn.write_bytes(content)
    assert take(queue) == "good"
    assert (folder / "unreadable" / torn.name).read_bytes() == content


def test_a_folder_in_place_of_a_message_stops_nobody(queue: SimpleQueue, folder: Path) -> None:
    queue.put("good")
    (folder / "rings" / "00000000000000000000-odd.json").mkdir()
    assert take(queue) == "good"


def test_an_unfinished_message_is_not_seen(queue: SimpleQueue, folder: Path) -> None:
    queue.put("good")
    (folder / "rings" / ".00000000000000000000-unfinished.json").write_bytes(b'{"body"')
    assert take(queue) == "good"
    assert not (folder / "unreadable").exists()


def test_publishing_goes_on_after_the_folder_was_wiped(queue: SimpleQueue, folder: Path) -> None:
    queue.put("lost")
    shutil.rmtree(folder)
    queue.put("found")
    assert take(queue) == "found"


def test_a_failed_publish_leaves_nothing_behind(queue: SimpleQueue, folder: Path) -> None:
    queue.put("first")
    folder.joinpath("rings").rename(folder / "elsewhere")
    folder.joinpath("rings").write_text("a file where the queue's folder should be")
    with pytest.raises(OSError, match="rings"):
        queue.put("second")
    assert len(list((folder / "elsewhere").iterdir())) == 1


def test_purging_reports_how_many_it_removed(queue: SimpleQueue) -> None:
    for number in range(3):
        queue.put(number)
    assert queue.qsize() == 3
    assert queue.clear() == 3
    assert queue.qsize() == 0


def test_a_queue_name_cannot_leave_the_folder(folder: Path) -> None:
    sly = Queue("../../outside", Exchange("sly"), routing_key="sly")
    with connect(folder) as connection, connection.SimpleQueue(sly) as queue:
        queue.put("kept in")
        assert take(queue) == "kept in"
    assert [path.name for path in folder.parent.iterdir()] == ["broker"]


def test_three_publishers_and_three_takers_lose_and_double_nothing(folder: Path, tmp_path: Path) -> None:
    context = get_context("spawn")
    results = [tmp_path / f"taken-{number}" for number in range(3)]
    processes = [context.Process(target=take_until_quiet, args=(folder, path)) for path in results]
    processes += [context.Process(target=publish_many, args=(folder, start, 200)) for start in (0, 200, 400)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    taken = [int(line) for path in results for line in path.read_text().split()]
    assert sorted(taken) == list(range(600))


APPLICATION = """
import os, sys
from celery import Celery
from kombu import Exchange, Queue
import config.broker
app = Celery("rings", broker=os.environ["BROKER"])
app.conf.update(
    broker_transport_options={"folder": os.environ["BROKER_FOLDER"]}, task_ignore_result=True,
    worker_consumer="config.consumer:Consumer", accept_content=["json"],
    task_queues=[Queue("rings", Exchange("rings"), routing_key="rings")], task_default_queue="rings",
    task_create_missing_queues=False,
)
@app.task(name="note")
def note(number):
    with open(os.environ["NOTES"], "a") as file:
        file.write(f"{number}\\n")
"""


@pytest.fixture
def application(folder: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of a Celery application with one task, `note`, which appends its number to a file."""
    (tmp_path / "rings_app.py").write_text(APPLICATION)
    python_path = os.pathsep.join([str(tmp_path), str(ROOT)])
    notes = tmp_path / "notes"
    notes.touch()
    own = {"BROKER": f"{broker.SCHEME}://", "BROKER_FOLDER": str(folder), "NOTES": str(notes)}
    return os.environ | own | {"PYTHONPATH": python_path}


@pytest.fixture
def worker(application: dict[str, str], tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    flags = ["-P", "prefork", "-c", "1", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    command = [sys.executable, "-m", "celery", "-A", "rings_app", "worker", "-Q", "rings", *flags]
    with (tmp_path / "worker.log").open("wb") as log:
        process = subprocess.Popen(command, env=application, stdout=log, stderr=log, cwd=tmp_path)
        yield process
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        finally:
            process.kill()


def send(application: dict[str, str], numbers: range) -> None:
    program = f"import rings_app\nfor n in {numbers!r}: rings_app.note.delay(n)"
    subprocess.run([sys.executable, "-c", program], env=application, check=True, timeout=60)


def test_a_real_worker_outlives_torn_files_and_a_wiped_folder(
    worker: subprocess.Popen[bytes], application: dict[str, str], folder: Path
) -> None:
    notes = Path(application["NOTES"])
    send(application, range(3))
    wait_for(lambda: notes.read_text().split() == ["0", "1", "2"])
    (folder / "rings" / "00000000000000000000-torn.json").write_bytes(b'{"body": ')
    wait_for((folder / "unreadable").exists)
    shutil.rmtree(folder)
    send(application, range(3, 5))
    wait_for(lambda: notes.read_text().split() == ["0", "1", "2", "3", "4"])
    assert worker.poll() is None


def test_a_message_is_json_that_a_person_can_read(application: dict[str, str], folder: Path) -> None:
    send(application, range(7, 8))
    [path] = (folder / "rings").iterdir()
    assert json.loads(path.read_text())["headers"]["task"] == "note"
