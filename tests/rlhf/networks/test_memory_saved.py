"""What saves memory changes no number: layers computed again, and weights that do not train in bf16."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from training.rlhf import seeding
from training.rlhf.data.batching import Batch, collate
from training.rlhf.data.chat import Chat, Rendered
from training.rlhf.networks.policy import Policy, load_policy, token_logprobs
from training.rlhf.networks.scalar_model import ScalarModel, scalar_from_policy


def batch() -> Batch:
    lengths = (3, 25, 11)
    return collate([Rendered([20 + n, 21], list(range(30, 30 + length))) for n, length in enumerate(lengths)], 2)


def gradient(module: nn.Module, result: Tensor) -> Tensor:
    module.zero_grad()
    result.sum().backward()
    return torch.cat([one.grad.flatten() for one in module.parameters() if one.grad is not None])


def scalar_model(directory: Path, chat: Chat, dtype: str) -> ScalarModel:
    return scalar_from_policy(load_policy(directory, chat, dtype), dtype, seeding.generator(0, "test"))


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_layers_computed_again_give_the_same_gradient(model_dir: Path, chat: Chat, dtype: str) -> None:
    policy, critic = load_policy(model_dir, chat, dtype), scalar_model(model_dir, chat, dtype)
    kept = gradient(policy, token_logprobs(policy, batch())), gradient(critic, critic.values(batch()))
    layers = count_layer_calls(policy)
    policy.trunk.checkpoint_activations()
    critic.trunk.checkpoint_activations()
    again = gradient(policy, token_logprobs(policy, batch())), gradient(critic, critic.values(batch()))
    assert all(torch.equal(*pair) for pair in zip(kept, again, strict=True))
    assert len(layers) == 2 * 2  # two layers, forward and again for the gradient


def count_layer_calls(policy: Policy) -> list[str]:
    """Grows with each call of an MLP, of which each layer has one."""
    calls: list[str] = []
    for name, module in policy.named_modules():
        if name.endswith(".mlp"):
            module.register_forward_pre_hook(lambda *_: calls.append("mlp"))
    return calls


def test_a_policy_that_does_not_train_has_the_same_numbers_in_bf16(model_dir: Path, chat: Chat) -> None:
    trained, frozen = (load_policy(model_dir, chat, "bf16", trains=trains) for trains in (True, False))
    with torch.no_grad():
        assert torch.equal(token_logprobs(trained, batch()), token_logprobs(frozen, batch()))
    assert linear_dtypes(trained) == {torch.float32}
    assert torch.bfloat16 in linear_dtypes(frozen)
    assert frozen.for_sampling() is frozen


def test_a_policy_that_does_not_train_is_not_copied_for_its_self_test_either(
    model_dir: Path, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[Policy] = []
    monkeypatch.setattr(Policy, "copied", copied.append)
    load_policy(model_dir, chat, "bf16", trains=False)
    assert copied == []


def test_a_scalar_model_that_does_not_train_has_the_same_numbers_in_bf16(model_dir: Path, chat: Chat) -> None:
    model = scalar_model(model_dir, chat, "bf16")
    with torch.no_grad():
        before = model(batch())
        model.freeze()
        assert torch.equal(model(batch()), before)
    assert linear_dtypes(model.backbone) == {torch.bfloat16}
    assert model.head.weight.dtype == torch.float32


def linear_dtypes(network: nn.Module) -> set[torch.dtype]:
    """Of the matrices of all layers."""
    return {
        parameter.dtype
        for name, parameter in network.named_parameters()
        if parameter.ndim == 2 and ("layers." in name or "h." in name)
    }
