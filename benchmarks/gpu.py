"""Measures everything that needs a GPU in one run of a few minutes, and prints a JSON line for each measurement.

Rates, share of the matrix peak and peak of memory of every stage at 0.5B and 1.5B, decoding as it is, as a CUDA graph
and compiled, stages that are killed and resumed, and a micro-batch that does not fit. All models are random, of the
Qwen2 shape, and made on the spot. Each part is a process of its own (benchmarks/device/), and its lines are printed as
they come, so that a run that is cut keeps what it had. A part for which too little time is left is skipped, one that
takes longer than is left is stopped; a line says so.

    python benchmarks/gpu.py [--seconds 360] [--shapes 0.5B,1.5B] [--folder FOLDER] | tee gpu.jsonl
    python benchmarks/gpu.py --small    # all of it on a CPU with tiny shapes: does it run at all

All files, up to 30 GB, are in a temporary folder within FOLDER.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.device.commands import not_deterministic  # noqa: E402
from training.rlhf.importing import ENVIRONMENT  # noqa: E402

Record = dict[str, Any]

LONGEST_QUOTE = 500  # characters of what a part said when it failed


class Part(NamedTuple):
    """A process that measures something."""

    module: str  # of benchmarks/device
    needs_s: int  # without which it is not begun
    shape: str = ""
    folder: str = ""  # in which it works; "" for none


def parts(shapes: list[str], *, small: bool) -> Iterator[Part]:
    """All parts, the most wanted first."""
    first, *others = ["tiny"] if small else shapes
    killed = "tiny" if small else "2-layers"
    yield Part("matrices", 20)
    yield Part("stages", 60, first, first)
    yield Part("kills", 60, killed, "kills")
    yield Part("shortage", 30, killed, "shortage")
    for shape in others:
        yield Part("stages", 60, shape, shape)
    yield Part("decoding", 20, first, first)


class Bench:
    """Runs parts until the time is over."""

    def __init__(self, folder: Path, seconds: float, *, small: bool) -> None:
        self._folder, self._small = folder, small
        self._ends = time.monotonic() + seconds
        self._peak = 0.0  # TFLOP/s of products of matrices

    @property
    def left_s(self) -> float:
        """Seconds that are left."""
        return self._ends - time.monotonic()

    def run(self, part: Part) -> bool:
        """Run a part and print its lines. Returns whether it did all that it had to do."""
        name = {"part": part.module, "shape": part.shape}
        if self.left_s < part.needs_s:
            print_line({**name, "skipped": f"{self.left_s:.0f} s are left, it needs {part.needs_s}"})
            return False
        began = time.monotonic()
        with tempfile.TemporaryFile("w+") as log:
            process = self._start(part, log)
            timer = threading.Timer(self.left_s, stop, [process])
            timer.start()
            for line in process.stdout or ():
                self._relay(line)
            code = process.wait()
            cut = not timer.is_alive()
            timer.cancel()
            log.seek(0)
            said = log.read()
        end = {**name, "seconds": round(time.monotonic() - began, 1)}
        if operators := not_deterministic(said):
            end["not_deterministic"] = operators
        if cut:
            end["stopped"] = "no time was left"
        elif code:
            end["failed"] = said[-LONGEST_QUOTE:]
        print_line(end)
        return not code and not cut

    def _start(self, part: Part, log: Any) -> "subprocess.Popen[str]":
        command: list[str | Path] = [sys.executable, "-m", f"benchmarks.device.{part.module}"]
        if part.folder:
            place = self._folder / part.folder
            place.mkdir(parents=True, exist_ok=True)
            command += [place, part.shape]
        if self._small:
            command.append("--small")
        # A group of its own, because a part may start stages, which have to stop with it.
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            process_group=0,
        )

    def _relay(self, text: str) -> None:
        """Print a line of a part, with its share of the matrix peak."""
        if not text.startswith("{"):  # a library's
            sys.stderr.write(text)
            return
        line: Record = json.loads(text)
        if line.get("dtype") == "bfloat16":
            self._peak = line["matrix_tflop_per_s"]
        if self._peak and "tflop_per_s" in line:
            line["share_of_matrix_peak"] = float(f"{line['tflop_per_s'] / self._peak:.3g}")
        print_line(line)


def stop(process: "subprocess.Popen[str]") -> None:
    """Kill a part and the stages that it started."""
    os.killpg(process.pid, signal.SIGKILL)


def print_line(line: Record) -> None:
    """Print it at once, for who reads it may be cut off."""
    print(json.dumps(line), flush=True)


def main() -> int:
    """Run all parts; the exit status is 1 where one was skipped, stopped or failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=360)
    parser.add_argument("--shapes", type=lambda names: names.split(","), default=["0.5B", "1.5B"])
    parser.add_argument("--folder", type=Path, help="on a fast disk")
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        bench = Bench(Path(folder), options.seconds, small=options.small)
        complete = [bench.run(part) for part in parts(options.shapes, small=options.small)]
    return 0 if all(complete) else 1


if __name__ == "__main__":
    sys.exit(main())
