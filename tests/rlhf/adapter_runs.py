"""The stages with LoRA adapters, in run directories as the platform writes them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.rlhf.reward_runs import demonstration, question, ranked_slate
from tests.rlhf.run_directories import write_run
from training.rlhf.__main__ import main
from training.rlhf.config import trunk_role
from training.rlhf.model_folder.adapter_files import is_adapter

LORA = {"adapter_rank": 4, "adapter_alpha": 8.0}
RATE = 1e-2  # with which tiny models learn within a few steps
PROMPTS = [{"id": n, "messages": question(n)} for n in range(5)]
DATA: dict[str, dict[str, list[dict[str, Any]]]] = {
    "sft": {"demonstrations": [demonstration(n) for n in range(6)]},
    "reward": {"rankings": [ranked_slate(n) for n in range(6)], "demonstrations": [demonstration(n) for n in range(2)]},
    "ppo": {"prompts": PROMPTS},
    "evaluation": {"heldout_prompts": PROMPTS, "heldout_rankings": [ranked_slate(n) for n in range(3)]},
    "sampling": {"prompts": PROMPTS},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "sft": {"epochs": 2, "batch_size": 3, "learning_rate": RATE, "max_response": 32},
    "reward": {"epochs": 2, "batch_size": 3, "learning_rate": RATE, "max_response": 32},
    "ppo": {
        "iterations": 2,
        "rollout_size": 8,
        "minibatch_size": 4,
        "max_response": 8,
        "learning_rate": RATE,
        "value_learning_rate": RATE,
    },
    "evaluation": {"draws": 2, "max_response": 8},
    "sampling": {"k": 4, "max_response": 8},
}


def write(run: Path, stage: str, parents: Mapping[str, Path], trunk: Path | None = None, **options: Any) -> Path:
    """A run directory of a stage; the adapters among its parents stand on `trunk`."""
    trunks = {trunk_role(role): trunk for role, one in parents.items() if trunk and is_adapter(one)}
    given = {**OPTIONS[stage], **options}
    return write_run(run, stage, parents={**parents, **trunks}, data=DATA[stage], **given)


def run(run: Path, stage: str, parents: Mapping[str, Path], trunk: Path | None = None, **options: Any) -> Path:
    """The output of a stage that was run."""
    write(run, stage, parents, trunk, **options)
    assert main([stage, str(run)]) == 0
    return run / "attempts/1/output"


def chain(root: Path, base: Path, **options: Any) -> dict[str, Path]:
    """{role: output} of SFT, reward model and PPO one after the other, each with adapters on the same base."""
    sft = run(root / "sft", "sft", {"base": base}, **LORA, **options)
    reward = run(root / "reward", "reward", {"policy": sft}, base, **LORA, **options)
    parents = {"policy": sft, "reference": sft, "reward": reward}
    policy = run(root / "ppo", "ppo", parents, base, **LORA, **options)
    return {"base": base, "sft": sft, "reward": reward, "policy": policy}
