"""Measures how fast the engine trains and samples, side by side with TRL on the same machine.

Both sides get the same random model and the same token ids (benchmarks/speed/work.py). They run in turn, each time in
a fresh process on the same cores, and never at once, so their ratio says more than a rate on a machine that others use,
too. TRL is installed into a virtual environment of its own on first use; its newest version has no PPO, so that comes
from the last one that had. Prints one JSON line for each work: medians, the median and range of the ratios, and MiB.
`cpu_ratio` is the ratio by the time that the processes computed: with one thread, that of an otherwise idle machine.

    python benchmarks/engine.py --works sft,reward4,ppo --threads 1 [--params 4M] [--repeats 5] [--peer none]
    python benchmarks/engine.py --profile --peer none    # where our side spends its time
    python benchmarks/engine.py --smoke                  # does it run at all
"""

import argparse
import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.speed.work import SHAPES, WORKS  # noqa: E402
from training.rlhf.importing import ENVIRONMENT  # noqa: E402
from training.rlhf.memory import HUGE_PAGES  # noqa: E402

VENV = Path.home() / ".cache" / "roundtable-bench"
TRL, TRL_WITH_PPO = "1.16.0", "1.12.0"
SAME_VERSION = ("torch", "transformers")  # on both sides: what requirements.lock names
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
QUIET = {"TRANSFORMERS_VERBOSITY": "error", "TRL_EXPERIMENTAL_SILENCE": "1", "PYTHONWARNINGS": "ignore"}

Record = dict[str, Any]


class Peer:
    """TRL in a virtual environment."""

    def __init__(self, folder: Path) -> None:
        self.python = folder / "trl" / "bin" / "python"
        self.with_ppo = folder / "ppo"
        self.installed = folder / "installed"  # names the versions once all of it is there

    def install(self) -> None:
        """Install TRL, unless these versions are there."""
        lines = (ROOT / "requirements.lock").read_text().splitlines()
        torch, transformers = (next(line for line in lines if line.startswith(f"{name}==")) for name in SAME_VERSION)
        versions = f"{torch} {transformers} {TRL} {TRL_WITH_PPO}"
        if self.installed.exists() and self.installed.read_text() == versions:
            return
        venv.create(self.python.parent.parent, with_pip=True, clear=True)
        pip: list[str | Path] = [self.python, "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, torch], check=True, stdout=sys.stderr)  # first: it is the largest
        subprocess.run([*pip, torch, transformers, f"trl=={TRL}"], check=True, stdout=sys.stderr)
        ppo: list[str | Path] = ["--upgrade", "--no-deps", "--target", self.with_ppo, f"trl=={TRL_WITH_PPO}"]
        subprocess.run([*pip, *ppo], check=True, stdout=sys.stderr)
        self.installed.write_text(versions)

    def measure(self, folder: Path, stage: str, threads: int) -> Record:
        """One measurement of the job in `folder`."""
        path = {"PYTHONPATH": str(self.with_ppo)} if stage == "ppo" else {}
        command = [self.python, ROOT / "benchmarks" / "speed" / "trl_peer.py", folder]
        return measured([*command, "--threads", str(threads)], path, threads)


def measure_ours(folder: Path, options: argparse.Namespace) -> Record:
    """One measurement of the job in `folder`, in the environment that a run's engine has."""
    command = [sys.executable, "-m", "benchmarks.speed.ours", folder, "--threads", str(options.threads)]
    return measured([*command, *(["--profile"] if options.profile else [])], ENVIRONMENT, options.threads)


def measured(command: list[Any], environment: dict[str, str], threads: int) -> Record:
    """What a side prints in its last line."""
    # Only what a process needs: a setting of the caller's, such as a number of threads, is for neither side.
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    together = kept | OFFLINE | QUIET | HUGE_PAGES | {"OMP_NUM_THREADS": str(threads)} | environment
    done = subprocess.run(command, cwd=ROOT, env=together, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    result: Record = json.loads(done.stdout.splitlines()[-1])
    return result


def compare(work: str, options: argparse.Namespace, peer: Peer | None) -> Record:
    """All repeats of a work, ours before the peer's."""
    with TemporaryDirectory() as place:
        folder = Path(place)
        command = [sys.executable, "-m", "benchmarks.speed.work", folder, "--work", work, "--params", options.params]
        subprocess.run([*command, *(["--smoke"] if options.smoke else [])], cwd=ROOT, check=True)
        ours, theirs = [], []
        for _ in range(options.repeats):
            ours.append(measure_ours(folder, options))
            if peer:
                theirs.append(peer.measure(folder, WORKS[work].stage, options.threads))
    line = {"work": work, "params": options.params, "threads": options.threads, "unit": WORKS[work].unit}
    if options.profile:
        return line | {name: rounded(median(one[name] for one in ours)) for name in ours[0]}
    return line | summary(ours, theirs)


def summary(ours: list[Record], theirs: list[Record]) -> Record:
    """The figures of all repeats; those of a peer that was not asked are None."""
    pairs = list(zip(ours, theirs, strict=False))
    ratios, cpu_ratios = ([one[name] / other[name] for one, other in pairs] for name in ("rate", "cpu_rate"))
    return {
        "ours": rounded(median(one["rate"] for one in ours)),
        "peer": rounded(median(other["rate"] for other in theirs)) if theirs else None,
        "ratio": rounded(median(ratios)) if ratios else None,
        "spread": [rounded(min(ratios)), rounded(max(ratios))] if ratios else None,
        "cpu_ratio": rounded(median(cpu_ratios)) if cpu_ratios else None,
        "ours_peak_mib": round(median(one["peak_mib"] for one in ours)),
        "peer_peak_mib": round(median(other["peak_mib"] for other in theirs)) if theirs else None,
        "repeats": len(ours),
    }


def rounded(number: float) -> float:
    """Four digits are more than a shared machine gives."""
    return float(f"{number:.4g}")


def works(names: str) -> list[str]:
    """The works of a list with commas."""
    chosen = names.split(",")
    if unknown := set(chosen) - set(WORKS):
        raise argparse.ArgumentTypeError(f"{min(unknown)!r} is none of {', '.join(WORKS)}")
    return chosen


def cores(names: str) -> list[int]:
    """The numbers of cores of a list with commas."""
    return [int(name) for name in names.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--works", type=works, default=list(WORKS), help=f"some of {','.join(WORKS)}")
    parser.add_argument("--params", choices=SHAPES, default="4M")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cores", type=cores, help="for example 0,1; without it, the first as many as threads")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peer", choices=("trl", "none"), default="trl")
    parser.add_argument("--venv", type=Path, default=VENV, help="the folder into which TRL is installed")
    parser.add_argument("--profile", action="store_true", help="our side alone: shares of its time, and GFLOP/s")
    parser.add_argument("--smoke", action="store_true", help="our side alone, a step of each work")
    options = parser.parse_args()
    peer = None
    if options.peer == "trl" and not options.profile and not options.smoke:
        peer = Peer(options.venv)
        peer.install()
    if options.smoke or options.profile:
        options.repeats = 1
    os.sched_setaffinity(0, options.cores or sorted(os.sched_getaffinity(0))[: options.threads])
    for work in options.works:
        print(json.dumps(compare(work, options, peer)), flush=True)


if __name__ == "__main__":
    main()
