"""LoRA adapters beside the layers of a network: what they change, and what they leave as it is."""

from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from tests.rlhf import architectures
from training.rlhf.data.batching import Batch, collate
from training.rlhf.data.chat import Chat, Rendered
from training.rlhf.exits import InvalidInput
from training.rlhf.model_folder import adapter_files
from training.rlhf.model_folder.adapter_files import Shape
from training.rlhf.networks import adapters
from training.rlhf.networks.adapters import Adapter, Base
from training.rlhf.networks.policy import Policy, load_policy, save_policy, token_logprobs
from training.rlhf.networks.scalar_model import scalar_on
from training.rlhf.stages.learner import Learner

SHAPE = Shape(rank=4, alpha=8.0)
EVERY = architectures.ADOPTED | architectures.ALSO_ADOPTED
# One of each way to be built: packed or padded, GPT-2's kind of linear layer, experts, and layers with a state.
KINDS = ["llama", "gpt_bigcode", "alibi", "experts", "qwen3_next", "jamba", "a narrow trunk", "text and pictures",
         "a router that gives more"]  # fmt: skip


def batch() -> Batch:
    return collate([Rendered([20, 21, 22, 23], [60, 61, 62, 63, 64]), Rendered([40, 41], [63])], 0)


def logits(policy: Policy) -> Tensor:
    with torch.no_grad():
        return policy.logits(batch().tokens, batch().attention)


def base_of(directory: Path, dtype: str = "fp32") -> Policy:
    policy = load_policy(directory, Chat.load(directory), dtype, trains=False)
    policy.freeze()
    return policy


def new(base: Policy, name: str, *, trains: bool = True) -> Adapter:
    adapter = adapters.inject(Base(base.network, "hash"), name, SHAPE, trains=trains)
    adapter.reset(0, name)
    return adapter


def learnt(base: Policy, name: str, *, trains: bool = True) -> Policy:
    """A policy whose adapter is far from zero."""
    adapter = new(base, name, trains=trains)
    draw = torch.Generator().manual_seed(len(name))
    with torch.no_grad():
        for matrix in adapter.matrices.values():
            matrix.copy_(torch.randn(matrix.shape, generator=draw) / 5)
    return base.with_adapter(adapter)


def test_a_new_adapter_changes_nothing_and_stands_beside_every_linear_layer(model_dir: Path) -> None:
    base = base_of(model_dir)
    layers = adapters.linear_layers(base.network)
    before = logits(base)
    policy = base.with_adapter(new(base, "policy"))
    assert torch.equal(logits(policy), before)
    assert len(layers) == {"gpt2": 8}.get(model_dir.name, 14)  # in two layers
    assert not any("lm_head" in path or "embed" in path for path in layers)
    assert len(policy.adapter.matrices) == 2 * len(layers)


def test_new_adapters_differ_by_their_seed_and_stream_alone(models: dict[str, Path]) -> None:
    first, second = (new(base_of(models["llama"]), "policy") for _ in range(2))
    torch.manual_seed(7)
    assert all(torch.equal(*pair) for pair in zip(first.tensors().values(), second.tensors().values(), strict=True))
    second.reset(1, "policy")
    drawn = [name for name in first.tensors() if "lora_A" in name]
    assert all(not torch.equal(first.tensors()[name], second.tensors()[name]) for name in drawn)
    width = first.tensors()[drawn[0]].shape[1]
    assert first.tensors()[drawn[0]].abs().max() <= width**-0.5
    assert len({first.tensors()[name].flatten()[0].item() for name in drawn}) == len(drawn)


@pytest.mark.parametrize("name", KINDS)
def test_merged_weights_give_the_same_logits_as_the_adapter(tmp_path: Path, name: str) -> None:
    directory = architectures.build(*EVERY[name], tmp_path / "base")
    base = base_of(directory)
    policy = learnt(base, "policy")
    assert (logits(policy) - logits(base)).abs().max() > 0.05  # or equality would mean little
    (tmp_path / "adapter").mkdir()
    save_policy(policy, Chat.load(directory), tmp_path / "adapter")
    merged = load_policy(directory, Chat.load(directory), "fp32")
    adapters.merge(merged.network, adapters.read(tmp_path / "adapter"))
    torch.testing.assert_close(logits(merged), logits(policy), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", [*KINDS, "experts beside shared ones"])
def test_peft_reads_an_adapter_as_it_was_written(tmp_path: Path, name: str) -> None:
    directory = architectures.build(*EVERY[name], tmp_path / "base")
    policy = learnt(base_of(directory), "policy")
    (tmp_path / "adapter").mkdir()
    save_policy(policy, Chat.load(directory), tmp_path / "adapter")
    network = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    theirs = peft.PeftModel.from_pretrained(network, tmp_path / "adapter")
    tokens = torch.tensor([[20, 21, 22, 23, 60, 61]])
    with torch.no_grad():
        expected = theirs(tokens).logits[..., : policy.vocab_size]
        torch.testing.assert_close(policy.logits(tokens, tokens > 0), expected, atol=1e-4, rtol=0)


def test_an_adapter_goes_on_beside_the_layers_that_it_was_saved_with(models: dict[str, Path], tmp_path: Path) -> None:
    base = base_of(models["llama"])
    some = list(adapters.linear_layers(base.network))[:3]
    first = adapters.inject(Base(base.network, "hash"), "policy", SHAPE, some, trains=True)
    first.reset(0, "policy")
    first.save(tmp_path)
    saved = adapters.read(tmp_path)
    assert sorted(saved.layers) == sorted(some)
    again = adapters.inject(Base(base_of(models["llama"]).network, "hash"), "policy", SHAPE, saved.layers, trains=True)
    again.restore(saved)
    assert all(torch.equal(matrix, first.tensors()[name]) for name, matrix in again.tensors().items())


def test_each_network_is_called_with_its_own_adapter_whoever_was_called_before(model_dir: Path) -> None:
    alone = {name: logits(learnt(base_of(model_dir), name)) for name in ("policy", "other one")}
    base = base_of(model_dir)
    untouched = logits(base)
    policy, other = learnt(base, "policy"), learnt(base, "other one", trains=False)
    for network, expected in ((policy, alone["policy"]), (other, alone["other one"]), (base, untouched)) * 2:
        assert torch.equal(logits(network), expected)
    assert policy.network is other.network is base.network


def test_a_policy_that_does_not_pack_samples_with_its_own_adapter(tmp_path: Path) -> None:
    base = base_of(architectures.build(*EVERY["alibi"], tmp_path))
    policy = learnt(base, "policy")
    assert not policy.trunk.packs
    expected = logits(policy)[:, -1]
    logits(base)
    with torch.no_grad():
        sampled = policy.next_logits(batch().tokens, batch().attention, policy.new_cache())
    torch.testing.assert_close(sampled[0], expected[0], atol=1e-5, rtol=0)  # the other row is padded there


def test_only_the_adapter_and_the_head_have_a_gradient(model_dir: Path) -> None:
    base = base_of(model_dir)
    policy, reference = learnt(base, "policy"), learnt(base, "reference", trains=False)
    critic = scalar_on(learnt(base, "critic"))
    token_logprobs(policy, batch()).sum().backward()
    assert all(matrix.grad is not None for matrix in policy.parameters())
    assert all(one.grad is None for one in critic.parameters())
    critic.values(batch()).sum().backward()
    token_logprobs(reference, batch()).sum()
    assert {name.split(".")[0] for name, _ in critic.named_parameters()} == {"adapter", "head"}
    assert all(one.grad is not None for one in critic.parameters())
    trained = {id(one) for network in (policy, critic) for one in network.parameters()}
    others = [one for one in base.network.parameters() if id(one) not in trained]
    assert all(one.grad is None and not one.requires_grad for one in others)
    assert {id(one) for one in reference.parameters()} <= set(map(id, others))


def test_a_step_changes_the_adapter_and_not_a_byte_of_its_base_or_of_another_adapter(model_dir: Path) -> None:
    base = base_of(model_dir)
    policy, _reference, _critic = (
        learnt(base, "policy"),
        learnt(base, "reference", trains=False),
        learnt(base, "critic"),
    )
    before = {id(one): one.detach().clone() for one in base.network.parameters()}
    learner = Learner(policy, "policy")
    token_logprobs(policy, batch()).sum().backward()
    learner.step(1e-2)
    changed = {id(one) for one in base.network.parameters() if not torch.equal(one, before[id(one)])}
    assert changed == set(map(id, policy.parameters()))
    assert {id(one) for group in learner.optimizer.param_groups for one in group["params"]} == changed


def test_a_layer_that_is_computed_again_has_the_adapter_of_its_first_time(model_dir: Path) -> None:
    """Between a forward pass and its backward pass another network may be called."""
    gradients = []
    for recomputes in (False, True):
        base = base_of(model_dir)
        policy, reference = learnt(base, "policy"), learnt(base, "reference", trains=False)
        if recomputes:
            policy.trunk.checkpoint_activations()
            reference.trunk.checkpoint_activations()  # asked for twice, done once
        loss = token_logprobs(policy, batch()).sum()
        logits(reference)
        loss.backward()
        assert torch.equal(logits(reference), logits(learnt(base_of(model_dir), "reference")))
        gradients.append([matrix.grad for matrix in policy.parameters()])
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


def test_a_base_that_runs_in_bf16_holds_its_linear_weights_in_it_and_samples_without_a_copy(
    model_dir: Path,
) -> None:
    base = base_of(model_dir, "bf16")
    policy = learnt(base, "policy")
    held = {layer.get_base_layer().weight.dtype for layer in policy.adapter.layers.values()}
    assert held == {torch.bfloat16}
    assert {matrix.dtype for matrix in policy.parameters()} == {torch.float32}
    assert policy.for_sampling() is policy
    whole = load_policy(model_dir, Chat.load(model_dir), "bf16")
    assert torch.equal(logits(base), logits(whole))  # the cast comes earlier, the numbers stay


def test_a_network_without_linear_layers_is_refused(models: dict[str, Path]) -> None:
    base = base_of(models["gpt2"])
    for name in list(adapters.linear_layers(base.network)):
        parent, _, child = name.rpartition(".")
        setattr(base.network.get_submodule(parent), child, torch.nn.Identity())
    with pytest.raises(InvalidInput) as refusal:
        new(base, "policy")
    assert refusal.value.kind == "not_adaptable"


def test_matrices_of_another_network_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    save_policy(learnt(base_of(models["llama"]), "policy"), Chat.load(models["llama"]), tmp_path)
    saved = adapters.read(tmp_path)
    other = base_of(models["gpt2"])
    beside_theirs = adapters.inject(Base(other.network, "hash"), "policy", SHAPE, saved.layers, trains=True)
    for use in (lambda: beside_theirs.restore(saved), lambda: adapters.merge(other.network, saved)):
        with pytest.raises(InvalidInput) as refusal:
            use()
        assert refusal.value.kind == "adapter_files"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("adapter_config.json", "{}"),
        ("adapter_config.json", "["),
        ("base.json", "{}"),
        ("base.json", "[]"),
        ("adapter_config.json", '{"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}'),
    ],
)
def test_an_adapter_that_does_not_say_what_it_is_is_refused(
    models: dict[str, Path], tmp_path: Path, name: str, content: str
) -> None:
    save_policy(learnt(base_of(models["llama"]), "policy"), Chat.load(models["llama"]), tmp_path)
    assert adapter_files.is_adapter(tmp_path)
    saved = adapters.read(tmp_path)
    assert (saved.shape, saved.base_sha256) == (SHAPE, "hash")
    (tmp_path / name).write_text(content)
    with pytest.raises(InvalidInput) as refusal:
        adapters.read(tmp_path)
    assert refusal.value.kind == "adapter_files"


def test_an_adapter_directory_has_no_other_weights(models: dict[str, Path], tmp_path: Path) -> None:
    policy = learnt(base_of(models["qwen2"]), "policy")
    save_policy(policy, Chat.load(models["qwen2"]), tmp_path)
    assert [path.name for path in tmp_path.glob("*.safetensors")] == [adapter_files.WEIGHTS]
    assert load_file(tmp_path / adapter_files.WEIGHTS).keys() == policy.adapter.tensors().keys()
