"""Makes docs/ppo-by-hand/, the step that docs/ppo-by-hand.md works through: `python -m tests.rlhf.worked_example`.

A real run, small enough to be read: two prompts, answers of at most three tokens, one minibatch in an iteration. What
`inspect` needs of it is kept, without the weights. Another machine may round and then answer otherwise: who runs this
anew has to rewrite the page.
"""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tests.rlhf.run_directories import write_run
from training.rlhf.__main__ import main
from training.rlhf.config import load_config, to_json
from training.rlhf.data.chat import Chat

TARGET = Path(__file__).parents[2] / "docs/ppo-by-hand"
STEP = 2  # in the first the policy still is its reference

THINGS = ["fox", "sea", "egg", "road", "wolf", "rain"]
QUALITIES = ["red", "blue", "white", "wet", "long", "grey"]
ANSWERS = ["Yes.", "No.", "Yes, it is.", "No, it is not."]  # people like the short ones
SHAPE = {"vocab_size": 320, "hidden_size": 32, "mlp_size": 64, "context": 32, "learning_rate": 1e-2, "tokens": 40_000}
SFT = {"epochs": 1, "batch_size": 16, "learning_rate": 1e-3, "max_response": 8}
REWARD = {"epochs": 4, "batch_size": 8, "learning_rate": 3e-3, "max_response": 8}
PPO = {"iterations": 4, "rollout_size": 2, "minibatch_size": 2, "max_response": 3, "shown_samples": 0, "seed": 18}
RATES = {"learning_rate": 4e-3, "value_learning_rate": 3e-3, "beta": 0.2}


def questions() -> list[list[dict[str, str]]]:
    return [[{"role": "user", "content": f"Is the {thing} {quality}?"}] for thing in THINGS for quality in QUALITIES]


def document(messages: list[dict[str, str]], text: str) -> dict[str, Any]:
    return {"messages": [*messages, {"role": "assistant", "content": text}]}


def demonstration(number: int, messages: list[dict[str, str]]) -> dict[str, Any]:
    return {"id": number, "messages": messages, "response": ANSWERS[number % 4]}


def ranked(number: int, messages: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "slate_id": number,
        "prompt_id": number,
        "messages": messages,
        "completions": [{"text": text, "finish_reason": "stop"} for text in ANSWERS],
        "judgements": [{"id": number, "annotator": "ann", "round": 1, "places": [1, 1, 2, 2]}],
    }


def run(at: Path, stage: str, **options: Any) -> Path:
    """Run a stage, and return the folder of its attempt."""
    assert main([stage, str(write_run(at / stage, stage, **options))]) == 0
    return at / stage / "attempts/1"


def make(at: Path) -> Path:
    """A run of PPO with all that comes before it."""
    corpus = [document(messages, text) for messages in questions() for text in ANSWERS]
    demonstrations = [demonstration(*one) for one in enumerate(questions())]
    rankings = [ranked(*one) for one in enumerate(questions())]
    base = run(at, "pretraining", data={"corpus": corpus}, **SHAPE) / "output"
    sft = run(at, "sft", parents={"base": base}, data={"demonstrations": demonstrations}, **SFT) / "output"
    data = {"rankings": rankings, "demonstrations": demonstrations}
    reward = run(at, "reward", parents={"policy": sft}, data=data, **REWARD) / "output"
    prompts = [{"id": number, "messages": messages} for number, messages in enumerate(questions()[:2], start=1)]
    parents = {"policy": sft, "reference": sft, "reward": reward}
    return run(at, "ppo", parents=parents, data={"prompts": prompts}, **PPO, **RATES)


def keep(attempt: Path, target: Path) -> None:
    """Copy what `inspect` and the page need of a run to `target`."""
    config = to_json(load_config(attempt.parents[1] / "config.json"))  # with what was left at its default
    policy = Path(config["parents"]["policy"]["path"])
    for role, parent in config["parents"].items():
        parent["path"] = "reward" if role == "reward" else "policy"
    shutil.rmtree(target, ignore_errors=True)
    (target / "policy").mkdir(parents=True)
    (target / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    Chat.load(policy).save(target / "policy")
    shutil.copyfile(policy / "config.json", target / "policy/config.json")
    kept = target / "attempts/1"
    (kept / "rollouts").mkdir(parents=True)
    lines = (attempt / "metrics.jsonl").read_text().splitlines(keepends=True)
    (kept / "metrics.jsonl").write_text("".join(lines[: STEP + 1]))
    name = f"step-{STEP:06d}.safetensors"
    shutil.copyfile(attempt / "rollouts" / name, kept / "rollouts" / name)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        keep(make(Path(scratch)), TARGET)
