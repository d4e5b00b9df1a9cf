"""Two processes learn what one does: on the same data, the losses and the weights agree."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from tests.rlhf import adapter_runs
from tests.rlhf.conftest import MakeRun
from tests.rlhf.ranks.launches import launch
from tests.rlhf.reward_runs import demonstration, question, ranked_slate
from training.rlhf.config import trunk_role

ATTEMPT = Path("attempts/1")
SHORT = {"max_response": 32, "batch_tokens": 150}  # so that each process has several micro-batches
NAMES = {1: "one", 2: "two"}


# The last policy is published, or equal weights might be those that it started from.
WATCHED = {"gauge_every": 2, "gauge_prompts": 9, "trial_answers": 0, "early_stopping": "off"}


def weights_of(attempt: Path) -> Tensor:
    """All weights in its output."""
    tensors = [safetensors.torch.load_file(path) for path in sorted((attempt / "output").glob("*.safetensors"))]
    return torch.cat([tensor.flatten() for group in tensors for _name, tensor in sorted(group.items())])


def metrics(run: Path) -> list[dict[str, float]]:
    lines = (run / ATTEMPT / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["metrics"] for line in lines]


def check_that_two_equal_one(make_run: MakeRun, stage: str, steps: int, **options: Any) -> tuple[Path, Path]:
    """Run the stage with one process and with two, and compare what they wrote."""
    one, two = (make_run(stage, name=NAMES[count], processes=count, **options) for count in NAMES)
    assert launch(one, stage, 1) == [0]
    assert launch(two, stage, 2) == [0, 0]
    assert len(metrics(one)) == len(metrics(two)) == steps + 1
    for expected, found in zip(metrics(one), metrics(two), strict=True):
        assert found == pytest.approx(expected, abs=1e-5, rel=1e-5)
    torch.testing.assert_close(weights_of(two / ATTEMPT), weights_of(one / ATTEMPT), atol=1e-5, rtol=0)
    return one, two


def test_sft(make_run: MakeRun, models: dict[str, Path]) -> None:
    """Seven demonstrations, two a step: in the last step of an epoch, one of the processes has nothing to read."""
    rows = {"demonstrations": [demonstration(n) for n in range(7)]}
    options = {"epochs": 2, "batch_size": 2, "learning_rate": 1e-3} | SHORT
    run, _ = check_that_two_equal_one(make_run, "sft", 8, parents={"base": models["llama"]}, data=rows, **options)
    base = safetensors.torch.load_file(models["llama"] / "model.safetensors")
    before = torch.cat([tensor.flatten() for _name, tensor in sorted(base.items())])
    assert (weights_of(run / ATTEMPT) - before).abs().max() > 1e-3  # or equality would mean little


def test_a_reward_model(make_run: MakeRun, models: dict[str, Path]) -> None:
    data = {"rankings": [ranked_slate(n) for n in range(7)], "demonstrations": [demonstration(n) for n in range(3)]}
    options = {"epochs": 2, "batch_size": 3, "learning_rate": 1e-3, "mismatch_coefficient": 0.5} | SHORT
    check_that_two_equal_one(make_run, "reward", 6, parents={"policy": models["qwen2"]}, data=data, **options)


def test_ppo(make_run: MakeRun, models: dict[str, Path], reward_models: dict[str, Path], watcher: Path) -> None:
    policy = models["llama"]
    parents = {"policy": policy, "reference": policy, "reward": reward_models["llama"], "watcher": watcher}
    data = {"prompts": [{"id": n, "messages": question(n)} for n in range(5)]}
    sizes = {"iterations": 3, "rollout_size": 10, "minibatch_size": 5, "max_response": 8, "batch_tokens": 150}
    rates = {"learning_rate": 1e-3, "value_learning_rate": 1e-3}
    one, two = check_that_two_equal_one(make_run, "ppo", 3, parents=parents, data=data, **sizes, **rates, **WATCHED)
    for path in (one / ATTEMPT / "samples").iterdir():
        texts = [
            [json.loads(line)["text"] for line in (run / ATTEMPT / "samples" / path.name).read_text().splitlines()]
            for run in (one, two)
        ]
        assert texts[0] == texts[1] and len(texts[0]) == 8


def test_ppo_with_adapters(make_run: MakeRun, models: dict[str, Path], tmp_path: Path) -> None:
    outputs = adapter_runs.chain(tmp_path / "round", models["llama"])
    parents = {"policy": outputs["sft"], "reference": outputs["sft"], "reward": outputs["reward"]}
    trunks = {trunk_role(role): models["llama"] for role in parents}
    options = {**adapter_runs.OPTIONS["ppo"], **adapter_runs.LORA, "batch_tokens": 150}
    data = adapter_runs.DATA["ppo"]
    check_that_two_equal_one(make_run, "ppo", 2, parents=parents | trunks, data=data, **options)


def texts(run: Path) -> list[str]:
    lines = (run / ATTEMPT / "output/completions.jsonl").read_text().splitlines()
    return [json.loads(line)["text"] for line in lines]


@pytest.mark.parametrize(("stage", "sizes"), [("sampling", {"k": 3}), ("evaluation", {"draws": 2})])
def test_the_answers(
    make_run: MakeRun, models: dict[str, Path], reward_models: dict[str, Path], stage: str, sizes: dict[str, int]
) -> None:
    policy = models["llama"]
    parents = {"policy": policy, "reward": reward_models["llama"]}
    prompts = [{"id": n, "messages": question(n)} for n in range(5)]
    data = {"prompts": prompts}
    if stage == "evaluation":
        parents["reference"] = policy
        data = {"heldout_prompts": prompts, "heldout_rankings": [ranked_slate(n) for n in range(5)]}
    runs = [make_run(stage, name=NAMES[n], processes=n, parents=parents, data=data, **sizes, **SHORT) for n in NAMES]
    for run, number in zip(runs, NAMES, strict=True):
        assert launch(run, stage, number) == [0] * number
    one, two = runs
    assert texts(one) == texts(two)
    assert metrics(two)[-1] == pytest.approx(metrics(one)[-1], abs=1e-5, rel=1e-5)
