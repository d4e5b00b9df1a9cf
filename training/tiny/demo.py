"""The circle, unattended: a real installation, simulated people, rounds, and what the people think of the policy.

The gold figures are computed here, from what the engine wrote; the installation knows nothing of them.
"""

import json
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any

from training.tiny import annotators, figures, preset
from training.tiny.annotators import Behaviour
from training.tiny.client import ApiError, Client
from training.tiny.figures import JudgedAnswer
from training.tiny.installation import Installation

PROJECT = "everyday-questions"
ADMIN = "admin@roundtable.example"
START_S = 120  # until the first page
BASE_S = 900  # until the base model is there
ROUND_S = 1800
POLL_S = 0.5
SUMMARY = ("number", "stages", "heldout_rm_accuracy", "kl_nats", "gold_mean", "gold_win_rate_vs_sft")
ROWS = {
    "sft": "SFT, seconds",
    "reward": "reward model, seconds",
    "watcher": "independent judge, seconds",
    "ppo": "PPO, seconds",
    "evaluation": "evaluation, seconds",
    "sampling": "sampling, seconds",
    "gold_mean": "gold, new policy mean",
    "gold_win_rate_vs_base": "gold wins of SFT against base",
    "gold_win_rate_vs_sft": "gold wins against SFT",
    "sft_vs_itself": "SFT against itself (expected 0.5)",
    "heldout_rm_accuracy": "reward model agrees with gold",
    "kl_nats": "KL from SFT, nats per answer",
    "stop_rate": "stop rate",
    "length": "length, tokens",
}
SHUFFLE = 0.1  # one ranking in ten is random
CONFLICT = 409

Say = Callable[[str], None]


class DemoFailed(Exception):
    """Something that the demo waited for did not happen."""


class Demo:
    """One installation, one project, some simulated people and an admin who triggers rounds."""

    def __init__(
        self,
        installation: Installation,
        *,
        seed: int,
        people: int,
        shuffle: float,
        say: Say,
        completions: int = preset.SIMULATED_K,
        slates: int = preset.SLATES_PER_ROUND,
    ) -> None:
        self.installation = installation
        self.sizes = ["--completions", str(completions), "--slates", str(slates)]
        self.seed = seed
        self.people = people
        self.shuffle = shuffle
        self.say = say

    def prepare(self) -> None:
        """Make the project and its people, and start the processes."""
        self.installation.prepare()
        bare = ["--without-answers", "--without-example", "--verbosity", "0"]
        self.installation.manage("create_demo_project", "--seed", str(self.seed), *self.sizes, *bare)
        tokens = self.installation.manage("simulated_annotators", PROJECT, "--number", str(self.people)).split()
        admin = self.installation.manage("api_token", ADMIN, "--scopes", "read", "admin").strip()
        self.installation.start()
        self.admin = Client(self.installation.url, admin)
        behaviour = Behaviour(shuffle=self.shuffle)
        self.team = annotators.assemble(
            self.installation.url, tokens, project=PROJECT, behaviour=behaviour, seed=self.seed
        )
        self.wait("the first page", START_S, self.is_up)

    def play(self, rounds: int) -> list[dict[str, Any]]:
        """Write, rank and train for some rounds; the figures of each."""
        written = annotators.work(self.team, "demonstration", wanted=preset.DEMONSTRATIONS)
        self.say(f"{self.people} simulated annotators wrote {written} answers.")
        reports: list[dict[str, Any]] = []
        first: list[JudgedAnswer] = []
        for number in range(1, rounds + 1):
            if number > 1:
                ranked = annotators.work(self.team, "ranking", wanted=10 * preset.SLATES_PER_ROUND)
                self.say(f"They ranked {ranked} sets.")
            finished = self.round(number)
            answers = self._judged_answers(number)
            first = first or answers
            reports.append(report(number, finished, answers, first))
            self.say(f"Round {number} is done.")
        return reports

    def round(self, number: int) -> dict[str, Any]:
        """Start a round and see it through; what the API says of it. Raises DemoFailed."""
        self.wait("the base model", BASE_S, self.open_round)
        status: dict[str, Any] = {}

        def is_over() -> bool:
            status.update(self.admin.get(f"projects/{PROJECT}/rounds/{number}/"))
            return status["status"] not in ("planned", "running")

        self.wait(f"round {number}", ROUND_S, is_over)
        if status["status"] != "succeeded":
            raise DemoFailed(f"round {number} {status['status']}: {status['error']}")
        return status

    def open_round(self) -> bool:
        """Start the next round; False where it cannot start yet."""
        try:
            self.admin.send("POST", f"projects/{PROJECT}/rounds/")
        except ApiError as refusal:
            if refusal.status != CONFLICT:
                raise
            return False
        return True

    def is_up(self) -> bool:
        """The server answers."""
        try:
            self.admin.get("projects/")
        except (OSError, HTTPException):
            return False
        return True

    def wait(self, what: str, limit_s: float, is_there: Callable[[], bool]) -> None:
        """Ask again and again until it is there. Raises DemoFailed."""
        deadline = time.monotonic() + limit_s
        while not is_there():
            if not self.installation.is_running or time.monotonic() > deadline:
                raise DemoFailed(f"Timed out waiting for {what}.\n{self.installation.log_tail()}")
            time.sleep(POLL_S)

    def _judged_answers(self, number: int) -> list[JudgedAnswer]:
        """The judged answers of the evaluation of a round: the newest one there is."""
        runs = [path for path in self.installation.data_dir.glob("runs/*/config.json") if _stage(path) == "evaluation"]
        if len(runs) != number:
            raise DemoFailed(f"expected {number} evaluations after round {number}, found {len(runs)}")
        newest = max(runs, key=lambda path: path.stat().st_mtime).parent
        (completions,) = newest.glob("attempts/*/output/completions.jsonl")
        return figures.read_answers(completions, figures.read_questions(newest / "data" / "heldout_prompts.jsonl"))


def _stage(config: Path) -> str:
    stage: str = json.loads(config.read_text("utf-8"))["stage"]
    return stage


def report(
    number: int, finished: Mapping[str, Any], answers: list[JudgedAnswer], first: list[JudgedAnswer]
) -> dict[str, Any]:
    """All figures of a round: seconds by stage, the engine's KL, and what the people think."""
    runs = {stage["stage"]: stage["run"] for stage in finished["stages"] if stage["run"]}
    kl = runs["evaluation"]["metrics"]["heldout/kl"] if "ppo" in runs else None
    seconds = {stage: _seconds(run) for stage, run in runs.items()}
    return {"stages": seconds, "kl_nats": kl, **figures.report(number, answers, first)}


def _seconds(run: Mapping[str, Any]) -> float:
    started, finished = (datetime.fromisoformat(run[name]) for name in ("started_at", "finished_at"))
    return round((finished - started).total_seconds(), 1)


def summary(seed: int, reports: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """The last line of the demo: null where a round has no such figure."""
    rounds = [{name: report.get(name) for name in SUMMARY} for report in reports]
    return {"seed": seed, "rounds": rounds, "seconds": round(seconds, 1)}


def table(reports: list[dict[str, Any]]) -> list[str]:
    """The figures of every round side by side, for people."""
    widest = max(len(label) for label in ROWS.values())
    lines = ["", " " * widest + "".join(f"{'round ' + str(report['number']):>16}" for report in reports)]
    lines += [f"{label:<{widest}}" + "".join(_cell(report, name) for report in reports) for name, label in ROWS.items()]
    return [
        *lines,
        "",
        "Gold: the simulated people's true preference, which the engine never sees. ± is the standard error.",
        "",
    ]


def _cell(report: Mapping[str, Any], name: str) -> str:
    value = report["stages"].get(name) if name in report["stages"] else report.get(name)
    if value is None:
        return f"{'-':>16}"
    error = report.get(f"{name}_se")
    if error is not None:
        return f"{f'{value:.3f} ± {error:.3f}':>16}"
    digits = 3 if abs(value) < 10 else 1
    return f"{value:>16.{digits}f}"
