"""Rankings that a tiny model learns, and reward models that have learnt them."""

from pathlib import Path
from typing import Any

from tests.rlhf.run_directories import write_run
from training.rlhf.__main__ import main
from training.rlhf.config import RunConfig
from training.rlhf.data.chat import Chat
from training.rlhf.networks.parents import ParentNetworks
from training.rlhf.stages.scoring import Scorer

GOOD = ["Drink water and rest.", "Put it into boiling water.", "From the clouds."]
BAD = ["A fox.", "What?", "red red red red"]


def question(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"How do I boil {number} eggs?"}]


def ranked_slate(number: int, places: list[int | None] | None = None) -> dict[str, Any]:
    texts = [GOOD[number % 3], BAD[number % 3], BAD[(number + 1) % 3]]
    return {
        "slate_id": number,
        "prompt_id": number,
        "messages": question(number),
        "completions": [{"text": text, "finish_reason": "stop" if n else "length"} for n, text in enumerate(texts)],
        "judgements": [{"id": number, "annotator": "ann", "round": 1, "places": places or [1, 2, 2]}],
    }


def demonstration(number: int) -> dict[str, Any]:
    return {"id": number, "messages": question(number), "response": GOOD[number % 3]}


def train(run: Path) -> Path:
    """Run the stage, and return its output."""
    assert main(["reward", str(run)]) == 0
    return run / "attempts/1/output"


def small(run: Path, policy: Path) -> Path:
    """A reward model that has learnt a little."""
    data = {"rankings": [ranked_slate(n) for n in range(8)], "demonstrations": [demonstration(n) for n in range(3)]}
    options = {"epochs": 2, "batch_size": 4, "learning_rate": 1e-3, "max_response": 64}
    return train(write_run(run, "reward", parents={"policy": policy}, data=data, **options))


def thorough(run: Path, policy: Path, places: list[int | None] | None = None) -> Path:
    """A reward model that knows its twelve slates by heart, with four demonstrations."""
    data = {
        "rankings": [ranked_slate(n, places) for n in range(12)],
        "demonstrations": [demonstration(n) for n in range(4)],
    }
    options = {"epochs": 20, "batch_size": 4, "learning_rate": 3e-3, "max_response": 64}
    return train(write_run(run, "reward", parents={"policy": policy}, data=data, **options))


def scorer(directory: Path, policy: Chat, cfg: RunConfig) -> Scorer:
    """The reward model in a directory, in use."""
    return Scorer.load(ParentNetworks(cfg, lambda _role: directory), policy, report_progress=lambda: None)


def watcher(run: Path, policy: Path) -> Path:
    """A watcher that has learnt a little, from slates that the other reward models never saw."""
    data = {"watcher_rankings": [ranked_slate(n) for n in range(20, 28)]}
    options = {"epochs": 2, "batch_size": 4, "learning_rate": 1e-3, "max_response": 64}
    write_run(run, "watcher", parents={"policy": policy}, data=data, **options)
    assert main(["watcher", str(run)]) == 0
    return run / "attempts/1/output"
