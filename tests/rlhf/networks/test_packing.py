"""Sequences end to end in one row: the same numbers as in a rectangle with padding."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AttentionInterface

from tests.rlhf import architectures
from training.rlhf import seeding
from training.rlhf.data.batching import Batch, collate
from training.rlhf.data.chat import Chat, Rendered
from training.rlhf.networks import attention
from training.rlhf.networks.layouts import SharedPrompts
from training.rlhf.networks.policy import Policy, read_policy, token_logprobs
from training.rlhf.networks.scalar_model import ScalarModel, scalar_from_policy

EVERY = architectures.ADOPTED | architectures.ALSO_ADOPTED
PACKING = ["llama", "dynamic rope", "longrope", "a window", "some windows and capped logits", "a narrow trunk"]
PACKING += ["experts", "text and pictures", "cohere2", "gpt_bigcode", "gpt_neox", "phi", "mixtral"]
NOT_PACKING = {
    "alibi": "its positions are in the mask",
    "gpt_oss": "its layers attend to something besides tokens",
    "a hybrid of linear attention": "a layer that does not attend goes on from one sequence to the next",
}
PROMPTS = [[20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30], [40], [20, 21, 50]]
SLATES = [  # completions of the prompts, in no order; one has no token
    (0, [60, 61, 62]),
    (1, [63]),
    (0, [64, 65, 66, 67, 68, 69, 70, 71, 72]),
    (2, []),
    (2, [73, 74]),
    (0, [60, 61, 75]),
]
RENDERED = [Rendered(PROMPTS[number], completion) for number, completion in SLATES]


def made(name: str, folder: Path) -> Policy:
    architectures.build(*EVERY[name], folder)
    policy, _unused = read_policy(folder, Chat.load(folder), "fp32")
    return policy


def gradients(module: torch.nn.Module) -> Tensor:
    return torch.cat([one.grad.flatten() for one in module.parameters() if one.grad is not None])


def trained(policy: Policy, batch: Batch) -> tuple[Tensor, Tensor]:
    """Log-probabilities, and the gradient of their sum."""
    policy.zero_grad()
    logprobs = token_logprobs(policy, batch)
    logprobs.sum().backward()
    return logprobs.detach(), gradients(policy)


@pytest.mark.parametrize("name", PACKING)
def test_packed_sequences_give_the_numbers_and_the_gradient_of_padded_ones(tmp_path: Path, name: str) -> None:
    policy = made(name, tmp_path)
    assert policy.trunk.packs
    batch = collate([Rendered([20 + n, 21], list(range(30, 30 + length))) for n, length in enumerate((3, 25, 11))], 2)
    packed = trained(policy, batch)
    policy.trunk.stop_packing()
    padded = trained(policy, batch)
    for ours, theirs in zip(packed, padded, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5 * theirs.abs().max().item(), rtol=0)


@pytest.mark.parametrize("name", NOT_PACKING)
def test_what_cannot_be_packed_reads_rectangles(tmp_path: Path, name: str) -> None:
    assert not made(name, tmp_path).trunk.packs


@pytest.mark.parametrize("name", PACKING)
def test_a_prompt_that_is_read_once_gives_the_scores_and_the_gradient_of_reading_it_each_time(
    tmp_path: Path, name: str
) -> None:
    model = scalar_from_policy(made(name, tmp_path), "fp32", seeding.generator(0, "test"))
    assert model.trunk.packs
    shared = scored(model)
    model.trunk.stop_packing()
    apart = scored(model)
    for ours, theirs in zip(shared, apart, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5 * theirs.abs().max().item(), rtol=0)


def scored(model: ScalarModel) -> tuple[Tensor, Tensor]:
    """Final scores, and the gradient of a sum of them in which each counts differently."""
    model.zero_grad()
    scores = model.final_scores(RENDERED, pad_id=2)
    (scores * torch.arange(1.0, len(scores) + 1)).sum().backward()
    return scores.detach(), gradients(model)


def test_a_prompt_lies_once_before_its_completions() -> None:
    layout = SharedPrompts(RENDERED, "cpu")
    assert layout.tokens.tolist() == [
        *(20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30),
        *(20, 21, 50),
        *(60, 61, 62, 64, 65, 66, 67, 68, 69, 70, 71, 72, 60, 61, 75),
        *(73, 74),
        *(40, 63),  # with one completion beside three, a part of its own
    ]
    assert layout.positions.tolist()[14:17] == [11, 12, 13]  # after a prompt of eleven tokens
    assert layout.last.tolist() == [16, 32, 25, 13, 30, 28]  # of a completion without a token, the prompt's


def test_prompts_with_few_completions_do_not_attend_for_as_many_as_others_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Demonstrations have two texts each in a step with slates of ten."""
    model = scalar_from_policy(made("llama", tmp_path), "fp32", seeding.generator(0, "test"))
    computed, scores = [], attention.scores

    def counting(query: Tensor, key: Tensor, options: attention.Options) -> Tensor:
        computed.append(len(query))
        return scores(query, key, options)

    monkeypatch.setattr(attention, "scores", counting)
    slate = [Rendered([20, 21], [60 + number]) for number in range(10)]
    few = [Rendered([30 + number // 2], [60, number]) for number in range(4)]
    model.final_scores(slate + few, pad_id=2)
    layers = model.backbone.config.num_hidden_layers
    assert sorted(computed) == sorted([1, 10, 2, 4] * layers)  # prompts, then completions, of each of the two parts


def test_a_window_that_comes_with_the_mask_alone_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sequences too short to show a window cannot prove that one is kept to."""
    monkeypatch.setitem(EVERY, "a window", ("mistral", architectures.TINY | {"sliding_window": 100}))
    policy = made("a window", tmp_path)
    assert policy.trunk.packs
    policy.trunk.stop_packing()

    def without_window(*arguments: Any, sliding_window: int | None, **options: Any) -> Any:
        assert sliding_window == 100
        return attention.attend(*arguments, **options)

    monkeypatch.setitem(AttentionInterface._global_mapping, attention.NAME, without_window)
    policy.trunk.try_packing()
    assert not policy.trunk.packs
