"""Measures learning: the full loop on the tiny model, stage by stage through the engine's CLI, without a server.

It goes without the independent judge, so PPO does all its iterations, and the reward model has all rankings.

For tuning: `make demo` runs the same loop through the platform. Base and SFT models are kept in --work and reused while
their settings stay the same. Prints one JSON line per round; tune on seeds 10 to 19 only.

    python benchmarks/learning.py --work /tmp/learning --seed 10 --rounds 2 --set ppo.beta=0.1 [--shuffle 1.0]
"""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import django  # noqa: E402

django.setup()

from training.presets import TINY  # noqa: E402
from training.rlhf.config import PretrainingConfig, parse, trunk_role  # noqa: E402
from training.rlhf.model_folder.adapter_files import is_adapter  # noqa: E402
from training.rlhf.run.manifest import manifest_sha256  # noqa: E402
from training.tiny import figures, preset  # noqa: E402
from training.tiny.annotators import Behaviour, rank, write  # noqa: E402
from training.tiny.corpus import question  # noqa: E402
from training.tiny.recipe import BASE, PRETRAINING, is_held_out, prepare  # noqa: E402
from training.tiny.world import Phrasing, phrasings  # noqa: E402

HELDOUT_SLATES = 0.1  # of the slates of a round

Record = dict[str, Any]


class StageFailed(Exception):
    """A stage ended without an output; its ending is in `run_dir`."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__(f"no output in {run_dir}")
        self.run_dir = run_dir


class Loop:
    """The rounds of one seed, each stage in its own directory."""

    def __init__(self, work: Path, options: argparse.Namespace) -> None:
        self.work = work
        self.seed: int = options.seed
        self.threads: int = options.threads
        self.slates: int = options.slates
        self.fields = merged(options.set)
        self.behaviour = Behaviour(noise=options.noise, shuffle=options.shuffle)
        self.train = [phrasing for phrasing in phrasings() if not is_held_out(phrasing.group)]
        self.held_out = [phrasing for phrasing in phrasings() if is_held_out(phrasing.group)]
        self.questions = {phrasing.group: phrasing.text for phrasing in phrasings()}
        self.trunk = BASE  # of the adapters, where stages train some
        self.rankings: list[Record] = []
        self.seconds: dict[str, float] = {}

    def base(self) -> Path:
        key = fingerprint("base", self.seed, self.threads, self.fields.get("pretraining", {}), sources())
        run_dir = self.work / f"base-{self.seed}-{key}"
        if not (run_dir / "config.json").exists():
            run_dir.mkdir(parents=True)
            fields = {**PRETRAINING, **self.fields.get("pretraining", {}), "seed": self.seed, "threads": self.threads}
            prepare(run_dir, PretrainingConfig(**fields))
        return self.finished("pretraining", run_dir)

    def sft(self, base: Path) -> Path:
        draw = random.Random(f"demonstrations {self.seed}")
        asked = draw.sample(self.train, k=preset.DEMONSTRATIONS)
        records = [{**prompt(phrasing), "response": self.demonstration(phrasing, draw)} for phrasing in asked]
        return self.stage("sft", {"base": base}, {"demonstrations": records}, cached=True)

    def demonstration(self, phrasing: Phrasing, draw: random.Random) -> str:
        """What somebody writes as an answer."""
        return write(phrasing.text, draw)

    def sample(self, number: int, parents: dict[str, Path]) -> None:
        """Sample answers from the policies and let the people rank them."""
        draw = random.Random(f"slates {self.seed} {number}")
        held_out = round(self.slates * HELDOUT_SLATES)
        asked = draw.sample(self.train, k=self.slates - held_out) + draw.sample(self.held_out, k=held_out)
        output = self.stage("sampling", parents, {"prompts": [prompt(phrasing) for phrasing in asked]}, number=number)
        slates: dict[str, list[Record]] = {}
        for row in read(output / "completions.jsonl"):
            slates.setdefault(row["prompt_id"], []).append(row)
        for group, rows in slates.items():
            self.rankings.append(self.ranked(group, rows, number, draw))

    def ranked(self, group: str, rows: list[Record], number: int, draw: random.Random) -> Record:
        texts = {str(index): row["text"] for index, row in enumerate(rows)}
        places = rank(self.questions[group], texts, self.behaviour, draw)
        name = f"{number}-{group}"
        return {
            "slate_id": name,
            "prompt_id": group,
            "messages": [{"role": "user", "content": self.questions[group]}],
            "completions": [{"text": row["text"], "finish_reason": row["finish_reason"]} for row in rows],
            "judgements": [{"id": name, "annotator": "1", "round": number, "places": [places[key] for key in texts]}],
        }

    def reward_model(self, number: int, sft: Path) -> Path:
        """The reward model of a round after the first."""
        demonstrations = read(sft.parents[2] / "data" / "demonstrations.jsonl")
        train = [slate for slate in self.rankings if not is_held_out(slate["prompt_id"])]
        records = {"rankings": train, "demonstrations": demonstrations}
        return self.stage("reward", {"policy": sft}, records, number=number)

    def learn(self, number: int, sft: Path) -> tuple[Path, Path]:
        """The reward model and the policy of a round after the first."""
        reward = self.reward_model(number, sft)
        prompts = {"prompts": [prompt(phrasing) for phrasing in self.train]}
        parents = {"policy": sft, "reference": sft, "reward": reward}
        return reward, self.stage("ppo", parents, prompts, number=number)

    def evaluate(self, number: int, parents: dict[str, Path]) -> list[figures.JudgedAnswer]:
        held_out = [slate for slate in self.rankings if is_held_out(slate["prompt_id"])]
        records = {"heldout_prompts": [prompt(phrasing) for phrasing in self.held_out]}
        if "reward" in parents:
            records["heldout_rankings"] = held_out
        output = self.stage("evaluation", parents, records, number=number)
        return figures.read_answers(output / "completions.jsonl", self.questions)

    def stage(
        self,
        stage: str,
        parents: dict[str, Path],
        data: dict[str, list[Record]],
        *,
        number: int = 1,
        cached: bool = False,
    ) -> Path:
        parents = parents | {trunk_role(role): self.trunk for role, path in parents.items() if is_adapter(path)}
        config = {
            "schema": 1,
            "stage": stage,
            "seed": self.seed + 1000 * number,
            "threads": self.threads,
            "dtype": "fp32",
            "parents": {
                role: {"path": str(path), "manifest_sha256": manifest_sha256(path)} for role, path in parents.items()
            },
            **self.fields[stage],
        }
        parse(config)
        name = fingerprint(config, data) if cached else f"{number}-{os.getpid()}"
        run_dir = self.work / f"{stage}-{self.seed}-{name}"
        (run_dir / "data").mkdir(parents=True, exist_ok=True)
        (run_dir / "config.json").write_text(json.dumps(config))
        for kind, records in data.items():
            (run_dir / "data" / f"{kind}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        return self.finished(stage, run_dir)

    def finished(self, stage: str, run_dir: Path) -> Path:
        output = run_dir / "attempts" / "1" / "output"
        if not (output / "manifest.json").exists():
            began = time.monotonic()
            if self.run(stage, run_dir):
                raise StageFailed(run_dir)
            self.seconds[stage] = round(time.monotonic() - began, 1)
        return output

    def run(self, stage: str, run_dir: Path) -> int:
        """Run a stage in a process of its own; its exit status."""
        command = [sys.executable, "-m", "training.rlhf", stage, str(run_dir)]
        with (run_dir / "log").open("w") as log:
            return subprocess.run(command, cwd=ROOT, stdout=log, stderr=log).returncode


def merged(changes: list[str]) -> dict[str, Record]:
    """The preset with changes like ppo.beta=0.1."""
    fields = {stage: dict(values) for stage, values in TINY.values.items()}
    fields["sampling"]["k"] = preset.SIMULATED_K
    for change in changes:
        name, value = change.split("=")
        stage, field = name.split(".")
        fields[stage][field] = json.loads(value)
    return fields


def fingerprint(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:10]


def sources() -> list[str]:
    """The texts that decide what the base model reads."""
    paths = [*(ROOT / "training" / "tiny").glob("*.toml"), *(ROOT / "training" / "tiny" / "kinds").glob("*.toml")]
    paths += [ROOT / "training" / "tiny" / name for name in ("corpus.py", "world.py")]
    return [str(preset.CORPUS_SIZE), *(path.read_text() for path in sorted(paths))]


def prompt(phrasing: Phrasing) -> Record:
    return {"id": phrasing.group, "messages": question(phrasing)}


def read(path: Path) -> list[Record]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def rounds(loop: Loop, count: int) -> Iterator[Record]:
    base = loop.trunk = loop.base()
    sft = loop.sft(base)
    first = loop.evaluate(1, {"policy": sft, "reference": base})
    loop.sample(1, {"policy": sft, "parent": base})
    yield figures.report(1, first, first) | {"seconds": loop.seconds}
    for number in range(2, count + 1):
        loop.seconds = {}
        reward, policy = loop.learn(number, sft)
        draws = loop.evaluate(number, {"policy": policy, "reference": sft, "reward": reward})
        yield figures.report(number, draws, first) | {"seconds": loop.seconds}
        if number < count:
            loop.sample(number, {"policy": policy, "parent": sft, "reward": reward})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seed", type=int, nargs="+", default=[10])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--slates", type=int, default=preset.SLATES_PER_ROUND)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--noise", type=float, default=0.5)
    parser.add_argument("--shuffle", type=float, default=0.1)
    parser.add_argument("--set", action="append", default=[], help="a setting of a stage, for example ppo.beta=0.1")
    options = parser.parse_args()
    for seed in options.seed:
        options_of_seed = argparse.Namespace(**{**vars(options), "seed": seed})
        for report in rounds(Loop(options.work, options_of_seed), options.rounds):
            print(json.dumps({"seed": seed, "set": options.set, **report}), flush=True)


if __name__ == "__main__":
    main()
