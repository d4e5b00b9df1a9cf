"""Products in bf16 on a CPU: few different numbers of tokens, and none of it shows in a result."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.rlhf import architectures
from training.rlhf import seeding
from training.rlhf.data.batching import Batch, collate
from training.rlhf.data.chat import Chat, Rendered
from training.rlhf.networks import device, shapes
from training.rlhf.networks.policy import Policy, load_policy, token_logprobs
from training.rlhf.networks.scalar_model import scalar_from_policy
from training.rlhf.stages.sampling import generate

BATCHES = range(20)  # no two of which have the same number of tokens


def test_at_most_a_sixteenth_is_added_and_sixteen_numbers_are_left_between_powers_of_two() -> None:
    counts = range(5000)
    assert all(count <= shapes.rounded_up(count) <= count * 17 / 16 for count in counts)
    assert all(len({shapes.rounded_up(count) for count in range(2**n + 1, 2 ** (n + 1) + 1)}) <= 16 for n in range(12))


@pytest.fixture(params=["llama", "experts", "gpt_neox"])
def bf16_policy(request: pytest.FixtureRequest, tmp_path: Path) -> Policy:
    architectures.build(*(architectures.ADOPTED | architectures.ALSO_ADOPTED)[request.param], tmp_path)
    policy = load_policy(tmp_path, Chat.load(tmp_path), "bf16")
    assert policy.trunk.packs
    return policy


def batch(number: int) -> Batch:
    return collate([Rendered([20] * (40 + number), [21] * (30 + n)) for n in range(3)], 0)


@pytest.fixture
def computed() -> Iterator[set[int]]:
    """The numbers of rows that linear layers had, all but a scalar model's head."""
    seen: set[int] = set()

    def note(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        if isinstance(module, nn.Linear) and module.out_features > 1:
            seen.add(given[0].shape[:-1].numel())

    hook = nn.modules.module.register_module_forward_pre_hook(note)
    yield seen
    hook.remove()


def test_batches_of_many_sizes_are_computed_in_few(bf16_policy: Policy, computed: set[int]) -> None:
    for number in BATCHES:
        token_logprobs(bf16_policy, batch(number))
    many = {int(batch(number).attention.sum()) for number in BATCHES}
    assert (len(many), min(many), max(many)) == (20, 213, 270)
    assert computed == {216, 224, 232, 240, 248, 256, 272} | {96}  # and 93 of each are predicted


def test_fp32_and_accelerators_compute_no_more_than_there_is(bf16_policy: Policy, computed: set[int]) -> None:
    bf16_policy.bf16 = False
    token_logprobs(bf16_policy, batch(0))
    with device.following("cuda"):
        bf16_policy.bf16 = True
        token_logprobs(bf16_policy, batch(0))
    assert computed == {213, 93}


def test_what_is_added_changes_no_number_and_no_gradient(bf16_policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained() -> list[Tensor]:
        bf16_policy.zero_grad()
        logprobs = token_logprobs(bf16_policy, batch(0))  # 213 tokens, which are computed as 216
        logprobs.sum().backward()
        return [logprobs.detach(), *(one.grad.clone() for one in bf16_policy.parameters() if one.grad is not None)]

    more = trained()
    monkeypatch.setattr(shapes, "rounded_up", lambda count: count)
    for ours, expected in zip(more, trained(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-2, atol=1e-2 * float(expected.abs().max()))
    torch.testing.assert_close(more[0], trained()[0], rtol=0, atol=1e-5)


def test_a_reward_model_gives_the_same_scores(bf16_policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    model = scalar_from_policy(bf16_policy, "bf16", seeding.generator(0, "test"))
    texts = [Rendered([20 + n // 3] * 37, [30 + n, 31]) for n in range(7)]
    scores = model.final_scores(texts, 0)
    monkeypatch.setattr(shapes, "rounded_up", lambda count: count)
    torch.testing.assert_close(scores, model.final_scores(texts, 0), rtol=0, atol=1e-4)


def test_answers_that_end_one_by_one_are_decoded_in_few_sizes(chat: Chat, model_dir: Path, computed: set[int]) -> None:
    policy = load_policy(model_dir, chat, "bf16")
    draws = [seeding.generator(0, "test", number) for number in range(200)]
    computed.clear()
    answers = generate(policy, chat, [[20, 21]] * 200, draws, 48, 1000, lambda: None)
    assert len({len(one.response) for one in answers}) > 20
    assert computed <= {shapes.rounded_up(count) for count in range(201)}
