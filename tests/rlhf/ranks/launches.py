"""Several processes of one run, started as a launcher starts them, on this machine and with one thread each."""

import os
import signal
import socket
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests.rlhf.forks import FORKS

PATIENCE_S = 60.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def engine(run: Path, stage: str) -> int:
    """Be one rank of a run; its exit status."""
    from training.rlhf.__main__ import main

    return main([stage, str(run)])


def live(work: Callable[..., int], arguments: tuple[Any, ...], environment: dict[str, str], log: Path) -> None:
    """Do `work` as the rank that the environment says."""
    os.environ.update(environment)
    output = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os._exit(work(*arguments))


def start(
    work: Callable[..., int], *arguments: Any, processes: int, log: Path, **environment: str
) -> list[BaseProcess]:
    """Have so many ranks do `work`; what they print is appended to `log`."""
    port = str(free_port())
    started = []
    for rank in range(processes):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        given = own | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port} | environment
        process = FORKS.Process(target=live, args=(work, arguments, given, log))
        process.start()
        started.append(process)
    return started


def join(processes: list[BaseProcess]) -> list[int | None]:
    """The exit codes of all ranks. Once one has failed, the others are told to stop, then killed: torchrun's way."""
    until = time.monotonic() + PATIENCE_S
    while any(process.exitcode is None for process in processes) and time.monotonic() < until:
        if any(process.exitcode for process in processes):
            for process in processes:
                process.terminate()
            until = min(until, time.monotonic() + 10)
        time.sleep(0.01)
    for process in processes:
        if process.is_alive() and process.pid:
            os.kill(process.pid, signal.SIGKILL)
        process.join()
    return [process.exitcode for process in processes]


def launch(run: Path, stage: str, processes: int, **environment: str) -> list[int | None]:
    """Run a stage with so many processes; their exit codes."""
    return join(start(engine, run, stage, processes=processes, log=run.with_name(f"{run.name}.log"), **environment))
