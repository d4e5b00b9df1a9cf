"""What a run's networks are read from: whole models and adapters, in any mixture."""

import dataclasses
import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.rlhf import adapter_runs
from tests.rlhf.adapter_runs import LORA
from training.rlhf.config import load_config
from training.rlhf.data.batching import collate
from training.rlhf.data.chat import Rendered
from training.rlhf.exits import InvalidInput
from training.rlhf.networks.parents import ParentNetworks
from training.rlhf.networks.policy import Policy, token_logprobs
from training.rlhf.run.directory import RunDirectory
from training.rlhf.run.manifest import manifest_sha256

BATCH = collate([Rendered([20, 21, 22, 23], [60, 61, 62, 63, 64]), Rendered([40, 41], [63])], 0)


@pytest.fixture(scope="module")
def outputs(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """{role: output} of a round with adapters on qwen2. Read only."""
    return adapter_runs.chain(tmp_path_factory.mktemp("round"), models["qwen2"])


@pytest.fixture
def parents(outputs: dict[str, Path]) -> dict[str, Path]:
    return {"policy": outputs["policy"], "reference": outputs["sft"], "reward": outputs["reward"]}


def networks_of(run: Path) -> ParentNetworks:
    directory = RunDirectory(run)
    cfg = directory.config()
    return ParentNetworks(cfg, partial(directory.parent, cfg))


def logprobs(policy: Policy) -> Tensor:
    with torch.no_grad():
        return token_logprobs(policy, BATCH)


def test_all_networks_of_ppo_share_one_trunk_and_train_their_own_adapters(
    tmp_path: Path, outputs: dict[str, Path], parents: dict[str, Path]
) -> None:
    networks = networks_of(adapter_runs.write(tmp_path / "run", "ppo", parents, outputs["base"], **LORA))
    scorer, _card = networks.reward_model()
    reference = networks.policy("reference")
    critic, _card = networks.reward_model(trains=True)
    policy = networks.policy("policy", trains=True)
    assert policy.network is reference.network
    assert policy.network.base_model is scorer.backbone is critic.backbone
    owned = [set(map(id, network.parameters())) for network in (policy, reference, critic, scorer)]
    assert len(set.union(*owned)) == sum(map(len, owned))  # no parameter belongs to two
    assert all(one.requires_grad for network in (policy, critic) for one in network.parameters())
    assert not any(one.requires_grad for one in reference.parameters())
    with torch.no_grad():
        assert torch.equal(critic(BATCH), scorer(BATCH))  # as which it starts
    assert not torch.equal(logprobs(policy), logprobs(reference))


def test_a_reference_that_is_the_base_itself_has_no_weights_of_its_own(
    tmp_path: Path, models: dict[str, Path], outputs: dict[str, Path], parents: dict[str, Path]
) -> None:
    parents = {**parents, "reference": outputs["base"]}
    networks = networks_of(adapter_runs.write(tmp_path / "run", "ppo", parents, outputs["base"], **LORA))
    reference, policy = networks.policy("reference"), networks.policy("policy", trains=True)
    assert reference.network is policy.network
    whole = networks_of(adapter_runs.write(tmp_path / "sft", "sft", {"base": models["qwen2"]})).policy("base")
    assert torch.equal(logprobs(reference), logprobs(whole))


def test_whole_parents_get_new_adapters(
    tmp_path: Path, models: dict[str, Path], reward_models: dict[str, Path]
) -> None:
    """Policy and reward model were trained whole: each is the base of a new adapter, and the policy's its reference."""
    parents = {"policy": models["qwen2"], "reference": models["qwen2"], "reward": reward_models["qwen2"]}
    networks = networks_of(adapter_runs.write(tmp_path / "run", "ppo", parents, **LORA))
    policy, reference = networks.policy("policy", trains=True), networks.policy("reference")
    critic, scorer = networks.reward_model(trains=True)[0], networks.reward_model()[0]
    assert policy.network is reference.network
    assert critic.backbone is scorer.backbone
    assert torch.equal(logprobs(policy), logprobs(reference))
    with torch.no_grad():
        assert torch.equal(critic(BATCH), scorer(BATCH))
    assert policy.adapter.base.sha256 == manifest_sha256(models["qwen2"])


def test_adapters_on_different_bases_have_a_trunk_each(
    tmp_path: Path, models: dict[str, Path], outputs: dict[str, Path]
) -> None:
    whole = adapter_runs.run(tmp_path / "whole", "sft", {"base": models["qwen2"]})
    other = adapter_runs.run(tmp_path / "other", "sft", {"base": whole}, **LORA)
    run = adapter_runs.write(tmp_path / "run", "sampling", {"policy": other, "parent": outputs["sft"]}, whole)
    config = json.loads((run / "config.json").read_text())
    base = {"path": str(outputs["base"]), "manifest_sha256": manifest_sha256(outputs["base"])}
    config["parents"]["parent_trunk"] = base
    (run / "config.json").write_text(json.dumps(config))
    networks = networks_of(run)
    assert networks.policy("policy").network is not networks.policy("parent").network


def test_training_all_weights_goes_on_from_the_merged_adapter(
    tmp_path: Path, outputs: dict[str, Path], parents: dict[str, Path]
) -> None:
    """So a project may go back from adapters to whole models."""
    networks = networks_of(adapter_runs.write(tmp_path / "run", "ppo", parents, outputs["base"]))
    policy, critic = networks.policy("policy", trains=True), networks.reward_model(trains=True)[0]
    shared = networks_of(adapter_runs.write(tmp_path / "adapters", "ppo", parents, outputs["base"], **LORA))
    torch.testing.assert_close(logprobs(policy), logprobs(shared.policy("policy")), atol=1e-4, rtol=0)
    with torch.no_grad():
        torch.testing.assert_close(critic(BATCH), shared.reward_model()[0](BATCH), atol=1e-4, rtol=0)
    assert policy.trunk.adapter is critic.trunk.adapter is None
    assert all(one.requires_grad for one in policy.parameters())
    whole = adapter_runs.run(tmp_path / "whole", "sft", {"base": outputs["sft"]}, outputs["base"])
    assert (whole / "model.safetensors").exists()
    assert not (whole / "base.json").exists()


def test_an_adapter_that_goes_on_keeps_its_base_and_its_matrices(tmp_path: Path, outputs: dict[str, Path]) -> None:
    options = {**LORA, "learning_rate": 1e-9}
    further = adapter_runs.run(tmp_path / "run", "sft", {"base": outputs["sft"]}, outputs["base"], **options)
    assert (further / "base.json").read_bytes() == (outputs["sft"] / "base.json").read_bytes()
    before, after = (load_file(one / "adapter_model.safetensors") for one in (outputs["sft"], further))
    for name, matrix in before.items():
        torch.testing.assert_close(after[name], matrix, atol=1e-6, rtol=0)


@pytest.mark.parametrize("changed", [{"adapter_rank": 2}, {"adapter_alpha": 4.0}])
def test_an_adapter_of_another_shape_is_refused(
    tmp_path: Path, outputs: dict[str, Path], changed: dict[str, float]
) -> None:
    run = adapter_runs.write(tmp_path / "run", "sft", {"base": outputs["sft"]}, outputs["base"], **LORA | changed)
    with pytest.raises(InvalidInput, match="adapter_rank 4 and adapter_alpha 8") as refusal:
        networks_of(run).policy("base", trains=True)
    assert refusal.value.kind == "adapter_differs"


def test_an_adapter_without_its_trunk_or_with_another_one_is_refused(
    tmp_path: Path, models: dict[str, Path], outputs: dict[str, Path]
) -> None:
    parents = {"base": outputs["sft"]}
    for trunk, kind in ((None, "trunk_missing"), (models["llama"], "trunk_differs")):
        run = adapter_runs.write(tmp_path / kind, "sft", parents, trunk, **LORA)
        with pytest.raises(InvalidInput) as refusal:
            networks_of(run).policy("base", trains=True)
        assert (refusal.value.kind, refusal.value.field) == (kind, "parents.base_trunk")


def test_a_trunk_that_has_changed_or_is_gone_is_refused(tmp_path: Path, outputs: dict[str, Path]) -> None:
    trunk = shutil.copytree(outputs["base"], tmp_path / "trunk")
    run = adapter_runs.write(tmp_path / "run", "sft", {"base": outputs["sft"]}, trunk, **LORA)
    weights = load_file(trunk / "model.safetensors")
    save_file({**weights, "model.norm.weight": weights["model.norm.weight"] + 1}, trunk / "model.safetensors")
    with pytest.raises(InvalidInput) as refusal:
        networks_of(run).policy("base", trains=True)
    assert (refusal.value.kind, refusal.value.field) == ("parent_changed", "parents.base_trunk")
    shutil.rmtree(trunk)
    with pytest.raises(InvalidInput) as refusal:
        networks_of(run).policy("base", trains=True)
    assert (refusal.value.kind, refusal.value.field) == ("parent_gone", "parents.base_trunk")


def test_an_adapter_is_no_base_of_another(tmp_path: Path, outputs: dict[str, Path]) -> None:
    stacked = shutil.copytree(outputs["sft"], tmp_path / "stacked")
    (stacked / "base.json").write_text(json.dumps({"manifest_sha256": manifest_sha256(outputs["sft"])}))
    run = adapter_runs.write(tmp_path / "run", "sft", {"base": stacked}, outputs["sft"], **LORA)
    with pytest.raises(InvalidInput) as refusal:
        networks_of(run).policy("base", trains=True)
    assert refusal.value.kind == "adapter_alone"


def test_a_run_without_adapters_reads_each_network_for_itself(
    tmp_path: Path, models: dict[str, Path], reward_models: dict[str, Path]
) -> None:
    parents = {"policy": models["qwen2"], "reference": models["qwen2"], "reward": reward_models["qwen2"]}
    networks = networks_of(adapter_runs.write(tmp_path / "run", "ppo", parents))
    assert networks.policy("policy", trains=True).network is not networks.policy("reference").network
    assert networks.reward_model(trains=True)[0].backbone is not networks.reward_model()[0].backbone


def test_only_a_parent_of_the_stage_can_have_a_trunk(tmp_path: Path, models: dict[str, Path]) -> None:
    run = adapter_runs.write(tmp_path / "run", "sft", {"base": models["qwen2"], "base_trunk": models["qwen2"]})
    cfg = load_config(run / "config.json")
    assert set(cfg.parents) == {"base", "base_trunk"}
    with pytest.raises(InvalidInput, match=r"does not use parents\.reward_trunk"):
        dataclasses.replace(cfg, parents={**cfg.parents, "reward_trunk": cfg.parents["base"]})
