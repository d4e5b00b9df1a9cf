"""SFT, reward model and PPO with LoRA adapters, from run directory to run directory, and what follows from them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.rlhf import adapter_runs
from tests.rlhf.adapter_runs import LORA
from tests.rlhf.forward_hooks import forward_hook, interrupted_at_forward
from tests.rlhf.run.test_resume import hand_over, metrics, samples, weights
from training.rlhf.__main__ import main
from training.rlhf.model_folder import adapter_files
from training.rlhf.networks.policy import Policy
from training.rlhf.run.manifest import manifest_sha256, verifies

CHECKPOINTS = Path("attempts/1/checkpoints")


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def outputs(
    request: pytest.FixtureRequest, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """{role: output} of a round with adapters. Read only."""
    root = tmp_path_factory.mktemp(request.param)
    base = shutil.copytree(models[request.param], root / "base")
    return adapter_runs.chain(root, base, checkpoint_seconds=0)


def run_of(output: Path) -> Path:
    """The run directory that an output lies in."""
    return output.parents[2]


def ppo_parents(outputs: dict[str, Path]) -> dict[str, Path]:
    return {"policy": outputs["sft"], "reference": outputs["sft"], "reward": outputs["reward"]}


def test_a_round_writes_adapters_that_name_their_base_and_leaves_it_as_it_was(
    models: dict[str, Path], outputs: dict[str, Path]
) -> None:
    base = manifest_sha256(outputs["base"])
    assert base == manifest_sha256(models["llama" if (outputs["base"] / "chat_template.jinja").exists() else "gpt2"])
    for role in ("sft", "reward", "policy"):
        assert adapter_files.is_adapter(outputs[role])
        assert adapter_files.base_sha256(outputs[role]) == base
        assert adapter_files.shape_of(outputs[role]) == (4, 8.0)
        assert not (outputs[role] / "model.safetensors").exists()
        matrices = load_file(outputs[role] / adapter_files.WEIGHTS)
        assert any(matrix.any() for name, matrix in matrices.items() if "lora_B" in name)  # it has learnt
    assert load_file(outputs["reward"] / "head.safetensors").keys() == {"weight", "bias", "offset", "gain"}


def test_ppo_starts_at_its_reference_and_its_sampler_agrees_with_training(outputs: dict[str, Path]) -> None:
    first, *others = [line["metrics"] for line in metrics(run_of(outputs["policy"])) if line["step"]]
    assert first["rollout/kl"] == 0
    assert all(line["rollout/sampler_gap"] < 1e-5 for line in (first, *others))
    assert others[-1]["rollout/kl"] != 0


def test_in_bf16_ppo_starts_at_its_reference_too(models: dict[str, Path], tmp_path: Path) -> None:
    """The weights are held in bf16 and never copied, whatever the device."""
    outputs = adapter_runs.chain(tmp_path, models["qwen2"], dtype="bf16")
    first, *others = [line["metrics"] for line in metrics(run_of(outputs["policy"])) if line["step"]]
    assert first["rollout/kl"] == 0 != others[-1]["rollout/kl"]
    assert all(line["rollout/sampler_gap"] < 0.01 for line in (first, *others))


def test_a_checkpoint_holds_what_trains_and_not_the_trunk(outputs: dict[str, Path]) -> None:
    for role, networks in (("sft", ["policy"]), ("reward", ["reward"]), ("policy", ["policy", "before", "critic"])):
        newest = sorted((run_of(outputs[role]) / CHECKPOINTS).iterdir())[-1]
        for network in networks:
            names = load_file(newest / f"{network}.safetensors")
            assert all(name.startswith(("adapter.", "head.")) for name in names)
            adapter = [name for name in names if name.startswith("adapter.")]
            assert len(adapter) == len(load_file(outputs["sft"] / adapter_files.WEIGHTS))
        assert ("head.weight" in names) == (role != "sft")


@pytest.mark.parametrize("stage", ["sft", "reward", "ppo"])
def test_a_stage_that_was_interrupted_ends_in_the_same_bytes(
    tmp_path: Path, outputs: dict[str, Path], stage: str
) -> None:
    parents = {"sft": {"base": outputs["base"]}, "reward": {"policy": outputs["sft"]}, "ppo": ppo_parents(outputs)}
    options = {**LORA, "checkpoint_seconds": 0}
    straight, killed = (
        adapter_runs.write(tmp_path / name, stage, parents[stage], outputs["base"], **options) for name in ("a", "b")
    )
    seen: list[nn.Module] = []
    with forward_hook(lambda network, *_: seen.append(network)):
        assert main([stage, str(straight)]) == 0
    with pytest.raises(KeyboardInterrupt), interrupted_at_forward(len(seen) * 9 // 10):
        main([stage, str(killed)])
    assert list(killed.glob(f"{CHECKPOINTS}/*"))
    assert not list(killed.glob("attempts/*/output"))
    hand_over(killed)
    assert main([stage, str(killed)]) == 0
    for written in (weights, metrics, samples):
        assert written(killed) == written(straight)
    assert adapter_files.WEIGHTS in weights(killed)


def test_a_policy_that_went_too_far_gets_its_adapter_back(tmp_path: Path, outputs: dict[str, Path]) -> None:
    options = {**LORA, "iterations": 1, "learning_rate": 0.2, "kl_limit": 0.02}
    published = adapter_runs.run(tmp_path / "run", "ppo", ppo_parents(outputs), outputs["base"], **options)
    start, end = (load_file(one / adapter_files.WEIGHTS) for one in (outputs["sft"], published))
    assert all(torch.equal(matrix, start[name]) for name, matrix in end.items())
    (line,) = [line for line in metrics(run_of(published)) if line["step"]]
    assert line["metrics"]["rollout/final_kl"] > 0.02


def test_activations_that_are_computed_again_change_no_byte(tmp_path: Path, outputs: dict[str, Path]) -> None:
    kept, again = (
        adapter_runs.run(
            tmp_path / value, "ppo", ppo_parents(outputs), outputs["base"], **LORA, activation_checkpointing=value
        )
        for value in ("off", "on")
    )
    assert (again / adapter_files.WEIGHTS).read_bytes() == (kept / adapter_files.WEIGHTS).read_bytes()


def test_a_run_with_adapters_is_reproduced(
    outputs: dict[str, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run = adapter_runs.write(tmp_path / "run", "reward", {"policy": outputs["sft"]}, outputs["base"], **LORA)
    assert main(["reward", str(run)]) == 0
    assert main(["reproduce", str(run)]) == 0
    assert "The run was reproduced" in capsys.readouterr().out


def merged(outputs: dict[str, Path], role: str, out: Path) -> Path:
    assert main(["merge", str(outputs[role]), str(outputs["base"]), str(out)]) == 0
    return out


def last_metrics(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = metrics(run_of(output))[-1]["metrics"]
    return found


@pytest.mark.parametrize("stage", ["evaluation", "sampling"])
def test_merged_models_are_measured_and_answer_as_the_adapters_do(
    tmp_path: Path, outputs: dict[str, Path], stage: str
) -> None:
    """In one run all are adapters, in the other whole models and an adapter are mixed."""
    policy, reward = (merged(outputs, role, tmp_path / role) for role in ("policy", "reward"))
    assert verifies(policy) and not adapter_files.is_adapter(policy)
    roles = {"policy": outputs["policy"], "parent": outputs["sft"], "reward": outputs["reward"]}
    whole = {"policy": policy, "parent": outputs["sft"], "reward": reward}
    if stage == "evaluation":
        roles, whole = ({**one, "reference": outputs["sft"]} for one in (roles, whole))
    adapted, mixed = (
        adapter_runs.run(tmp_path / name, stage, parents, outputs["base"])
        for name, parents in (("adapters", roles), ("whole", whole))
    )
    assert last_metrics(mixed) == pytest.approx(last_metrics(adapted), abs=1e-4)
    texts = [
        [json.loads(line)["text"] for line in (one / "completions.jsonl").read_text().splitlines()]
        for one in (adapted, mixed)
    ]
    assert texts[0] == texts[1]


def test_evaluation_loads_a_base_once_for_all_its_adapters(tmp_path: Path, outputs: dict[str, Path]) -> None:
    seen = set()
    parents = {"policy": outputs["policy"], "reference": outputs["sft"], "parent": outputs["base"]}
    run = adapter_runs.write(tmp_path / "run", "evaluation", parents, outputs["base"])
    with forward_hook(lambda network, *_: seen.add(id(network.network)) if isinstance(network, Policy) else None):
        assert main(["evaluation", str(run)]) == 0
    assert len(seen) == 1


def test_merging_is_repeatable_and_refuses_another_base(
    tmp_path: Path, models: dict[str, Path], outputs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (merged(outputs, "policy", tmp_path / name) for name in ("first", "second"))
    assert manifest_sha256(first) == manifest_sha256(second)
    for trunk, sentence in ((models["qwen2"], "its hash differs"), (tmp_path / "none", "no model directory none")):
        assert main(["merge", str(outputs["policy"]), str(trunk), str(tmp_path / "out")]) == 77
        assert sentence in capsys.readouterr().err
    assert main(["merge", str(first), str(outputs["base"]), str(tmp_path / "out")]) == 77  # it is whole already
    assert not list(tmp_path.glob("*out*"))


def test_merging_replaces_nothing_and_writes_into_neither_of_its_inputs(
    tmp_path: Path, outputs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    adapter, base = (Path(shutil.copytree(outputs[role], tmp_path / role)) for role in ("policy", "base"))
    (tmp_path / "notes").write_text("mine")
    (tmp_path / "link").symlink_to(base)
    (base / "empty").mkdir()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    overlapping = (adapter, base, base / "empty", adapter / "merged", tmp_path / "link/merged", tmp_path)
    refusals = dict.fromkeys(overlapping, "overlap: name a new directory for the merged model")
    refusals |= dict.fromkeys((tmp_path / "notes", outputs["sft"]), "exists and is not an empty directory")
    with forward_hook(lambda *_: pytest.fail("a network was loaded")):
        for out, sentence in refusals.items():
            assert main(["merge", str(adapter), str(base), str(out)]) == 77
            assert sentence in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    (tmp_path / "new").mkdir()
    assert main(["merge", str(adapter), str(base), str(tmp_path / "new")]) == 0
    assert (tmp_path / "new/model.safetensors").is_file()
