"""The engine under torchrun: what is asked of the launcher reaches its processes, on one host or on two."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.rlhf.ranks.conftest import MakeSft
from tests.rlhf.ranks.launches import PATIENCE_S, free_port, launch
from tests.rlhf.run.test_resume import weights
from training.rlhf import endings
from training.rlhf.run import rank_notes

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[3]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


def torchrun(run: Path, *options: str, folder: Path = REPOSITORY) -> subprocess.Popen[bytes]:
    """A launcher that has `folder` as its working directory."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [*TORCHRUN, *options, "-m", "training.rlhf", "sft", str(run)]
    with (run / "launcher.log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


@contextmanager
def launched(run: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Two processes on this host."""
    process = torchrun(run, "--standalone", "--nproc-per-node", "2")
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_until(condition: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_request_to_stop_that_reaches_the_launcher_saves_a_checkpoint(make_sft: MakeSft) -> None:
    run = make_sft(epochs=1000)
    with launched(run) as process:
        wait_until(lambda: list(run.glob("attempts/1/checkpoints/step-*3")), process)
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)
    ending = endings.read(run / "attempts/1")
    assert (ending["kind"], ending["exit_code"]) == ("interrupted", 75)
    assert ending["sentence"].endswith("with a checkpoint")


def test_the_processes_die_with_their_launcher(make_sft: MakeSft) -> None:
    run = make_sft(epochs=1000)
    with launched(run) as process:
        wait_until(lambda: list(run.glob("attempts/1/checkpoints/step-*3")), process)
        pids = [note.pid for note in rank_notes.read(run / "attempts/1")]
        assert len(pids) == 2 and all(map(is_alive, pids))
        process.kill()
        process.wait()
        deadline = time.monotonic() + 5
        while any(map(is_alive, pids)):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_two_hosts_learn_what_one_does(make_sft: MakeSft, tmp_path: Path) -> None:
    """Two launchers in folders of their own, with one rendezvous and one run directory."""
    one, two = make_sft("one"), make_sft("two")
    assert launch(one, "sft", 2) == [0, 0]
    port = str(free_port())
    shared = ("--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", port)
    hosts = []
    for rank in range(2):
        folder = tmp_path / f"host-{rank}"
        folder.mkdir()
        hosts.append(torchrun(two, *shared, "--node-rank", str(rank), folder=folder))
    assert [host.wait(PATIENCE_S) for host in hosts] == [0, 0]
    assert weights(two) == weights(one)
