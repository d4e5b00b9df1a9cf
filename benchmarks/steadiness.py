"""Measures whether stages stay as they begin: the time of a step, the memory, and how long a start takes.

In the tiny world, SFT goes over its demonstrations again and again until it has taken so many steps; sampling, the
reward model and PPO follow with the tiny preset. Prints a JSON line for each stage that trains: `start_s`, from the
start of its process to its first line of metrics; `step_ms`, the median step of each tenth of the steps; `memory_mib`,
the most memory that the process had in each tenth, 0 where a tenth was too short to look.

    python benchmarks/steadiness.py [--steps 10000] [--seed 10] [--set ppo.iterations=20]
    python benchmarks/steadiness.py --smoke    # does it run at all: a few steps of SFT
"""

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.learning import Loop, read  # noqa: E402
from benchmarks.quality.parents import new_loop  # noqa: E402
from training.presets import TINY  # noqa: E402
from training.tiny import preset  # noqa: E402
from training.tiny.recipe import BASE  # noqa: E402

TENTHS = 10
LOOK_S = 0.1  # between two looks at the memory


class Look(NamedTuple):
    """The memory of a process at a moment."""

    time: float  # seconds since the epoch, as in metrics
    mib: float


class SteadyLoop(Loop):
    """A loop that watches the processes of its stages."""

    def run(self, stage: str, run_dir: Path) -> int:
        """Run a stage, and print its line if it trains."""
        began, looks = time.time(), list[Look]()
        with (run_dir / "log").open("w") as log:
            command = [sys.executable, "-m", "training.rlhf", stage, str(run_dir)]
            process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
            while process.poll() is None:
                looks.append(Look(time.time(), resident_mib(process.pid)))
                time.sleep(LOOK_S)
        if process.returncode == 0 and stage in ("sft", "reward", "ppo"):
            times = [row["time"] for row in read(run_dir / "attempts" / "1" / "metrics.jsonl")]
            print(json.dumps({"stage": stage, **steadiness(began, times, looks)}), flush=True)
        return process.returncode


def resident_mib(pid: int) -> float:
    """The memory of a process; 0 once it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    kib = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(kib[0]) / 1024 if kib else 0.0


def steadiness(began: float, times: Sequence[float], looks: Sequence[Look]) -> dict[str, Any]:
    """The figures of a stage that began at a time and wrote metrics at `times`, the first of them before any step."""
    steps = len(times) - 1
    bounds = [round(tenth * steps / TENTHS) for tenth in range(TENTHS + 1)]
    milliseconds, memory = [], []
    for first, last in pairwise(bounds):
        taken = [after - before for before, after in pairwise(times[first : last + 1])]
        milliseconds.append(round(1000 * median(taken), 1))
        seen = [look.mib for look in looks if times[first] <= look.time <= times[last]]
        memory.append(round(max(seen, default=0.0)))
    return {"steps": steps, "start_s": round(times[0] - began, 2), "step_ms": milliseconds, "memory_mib": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000, help="of SFT, at least")
    parser.add_argument("--seed", type=int, default=10)
    parser.add_argument("--set", action="append", default=[], help="a setting of a stage, like ppo.iterations=20")
    parser.add_argument("--smoke", action="store_true", help="a few steps of SFT")
    options = parser.parse_args()
    steps = 20 if options.smoke else options.steps
    epochs = math.ceil(steps / math.ceil(preset.DEMONSTRATIONS / TINY.values["sft"]["batch_size"]))
    with TemporaryDirectory() as place:
        loop = new_loop(Path(place), options.seed, [f"sft.epochs={epochs}", *options.set], kind=SteadyLoop)
        sft = loop.sft(BASE)
        if not options.smoke:
            loop.sample(1, {"policy": sft, "parent": BASE})
            loop.learn(2, sft)


if __name__ == "__main__":
    main()
