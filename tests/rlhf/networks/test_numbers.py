"""The forward pass: the same numbers whatever the padding, the batch and the reading before it; and what is computed
from them can be checked by hand."""

import math
from itertools import chain
from pathlib import Path

import pytest
import torch

from training.rlhf import seeding
from training.rlhf.data.batching import Batch, collate, collate_prompts, epoch_batches, micro_batches, positions
from training.rlhf.data.chat import Chat, Rendered
from training.rlhf.logprobs import entropy_of, exact_kl, k1, k3, logprobs_of, masked_sum
from training.rlhf.networks.policy import Policy, load_policy, token_logprobs
from training.rlhf.networks.scalar_model import scalar_from_policy

QUESTION = [{"role": "user", "content": "How do I treat my headache?"}]
SHORT = [{"role": "user", "content": "And a wolf?"}]


@pytest.fixture
def rendered(chat: Chat) -> list[Rendered]:
    return [
        chat.reward_ids(QUESTION, "Drink water and rest.", stopped=True),
        chat.reward_ids(SHORT, "A dog.", stopped=True),
        chat.reward_ids(QUESTION, "Rest", stopped=False),
    ]


@pytest.mark.parametrize("padding", [0, 7, 64])
@pytest.mark.parametrize("side", ["left", "right"])
def test_logits_do_not_depend_on_padding(policy: Policy, rendered: list[Rendered], padding: int, side: str) -> None:
    ids = rendered[0].prompt + rendered[0].response
    alone = policy(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool))
    pad, real = torch.full((1, padding), 3), torch.tensor([ids])
    nothing, everything = torch.zeros(1, padding, dtype=torch.bool), torch.ones(1, len(ids), dtype=torch.bool)
    order = slice(None, None, 1 if side == "left" else -1)
    padded = policy(torch.cat([pad, real][order], dim=1), torch.cat([nothing, everything][order], dim=1))
    part = slice(padding, None) if side == "left" else slice(0, len(ids))
    torch.testing.assert_close(padded[:, part], alone, atol=1e-5, rtol=0)


def test_logprobs_do_not_depend_on_the_batch(policy: Policy, chat: Chat, rendered: list[Rendered]) -> None:
    together = token_logprobs(policy, collate(rendered, chat.pad_id))
    for row, sample in enumerate(rendered):
        alone = token_logprobs(policy, collate([sample], chat.pad_id))
        torch.testing.assert_close(together[row, : sample.length], alone[0], atol=1e-5, rtol=0)


def test_scores_do_not_depend_on_the_batch(model_dir: Path, chat: Chat, rendered: list[Rendered]) -> None:
    model = scalar_from_policy(load_policy(model_dir, chat, "fp32"), "fp32", seeding.generator(0, "test"))
    together = collate(rendered * 6, chat.pad_id)
    scores = model(together.tokens, together.attention)
    for row, sample in enumerate(rendered):
        alone = collate([sample], chat.pad_id)
        torch.testing.assert_close(
            scores[row, : sample.length], model(alone.tokens, alone.attention)[0], atol=1e-5, rtol=0
        )


def test_in_bf16_scores_depend_on_the_batch_by_little_beside_their_spread(
    model_dir: Path, chat: Chat, rendered: list[Rendered]
) -> None:
    model = scalar_from_policy(load_policy(model_dir, chat, "bf16"), "bf16", seeding.generator(0, "test"))
    together = collate(rendered * 6, chat.pad_id)
    scores = model(together.tokens, together.attention)
    spread = scores[together.attention].std()
    for row, sample in enumerate(rendered):
        alone = collate([sample], chat.pad_id)
        gap = scores[row, : sample.length] - model(alone.tokens, alone.attention)[0]
        assert gap.abs().max() <= 0.02 * spread


def test_the_padding_id_may_be_the_end_id(policy: Policy, chat: Chat, rendered: list[Rendered]) -> None:
    distinct, same = collate(rendered, pad_id=5), collate(rendered, pad_id=chat.eos_id)
    assert torch.equal(distinct.attention, same.attention)
    assert torch.equal(distinct.response, same.response)
    ours, theirs = token_logprobs(policy, distinct), token_logprobs(policy, same)
    torch.testing.assert_close(ours[distinct.response], theirs[same.response], atol=1e-6, rtol=0)
    ended = same.tokens[0, rendered[0].length - 1]
    assert ended == chat.eos_id
    assert same.response[0, rendered[0].length - 1]


def test_two_readings_are_bitwise_equal(policy: Policy, chat: Chat, rendered: list[Rendered]) -> None:
    batch = collate(rendered, chat.pad_id)
    learning = token_logprobs(policy, batch)
    with torch.no_grad():
        reading = token_logprobs(policy, batch)
    assert torch.equal(learning, reading)


def test_a_value_does_not_see_the_token_that_it_stands_at(
    model_dir: Path, chat: Chat, rendered: list[Rendered]
) -> None:
    model = scalar_from_policy(load_policy(model_dir, chat, "fp32"), "fp32", seeding.generator(0, "test"))
    batch = collate(rendered[:1], chat.pad_id)
    t = rendered[0].length - 3
    changed = batch.tokens.clone()
    changed[0, t:] = 7
    values, others = model.values(batch.tokens, batch.attention), model.values(changed, batch.attention)
    assert torch.equal(values[0, : t + 1], others[0, : t + 1])
    assert not torch.equal(values[0, t + 1 :], others[0, t + 1 :])


def test_ids_that_no_text_can_have_get_no_probability(models: dict[str, Path]) -> None:
    chat = Chat.load(models["qwen2"])
    policy = load_policy(models["qwen2"], chat, "fp32")
    assert policy.network.config.vocab_size > chat.vocab_size
    logits = policy(torch.tensor([[1, 2, 3]]), torch.ones(1, 3, dtype=torch.bool))
    assert logits.shape[-1] == chat.vocab_size
    torch.testing.assert_close(logits.softmax(-1).sum(-1), torch.ones(1, 3))


def test_a_batch_says_which_tokens_are_the_answer() -> None:
    batch = collate([Rendered([1, 2], [3, 4, 9]), Rendered([5], [9])], pad_id=9)
    assert batch.tokens.tolist() == [[1, 2, 3, 4, 9], [5, 9, 9, 9, 9]]
    assert batch.attention.sum(1).tolist() == [5, 2]
    assert batch.response.long().tolist() == [[0, 0, 1, 1, 1], [0, 1, 0, 0, 0]]


def test_positions_count_real_tokens_only() -> None:
    _, attention = collate_prompts([[1, 2, 3], [4]], pad_id=0)
    assert positions(attention).tolist() == [[0, 1, 2], [0, 0, 0]]
    assert attention[1].tolist() == [False, False, True]


def test_micro_batches_hold_every_index_once_within_the_budget() -> None:
    lengths = [5, 50, 7, 6, 31, 5, 200]
    groups = micro_batches(lengths, tokens=64)
    assert sorted(index for group in groups for index in group) == list(range(7))
    for group in groups:
        assert len(group) == 1 or len(group) * max(lengths[index] for index in group) <= 64
    assert groups == micro_batches(lengths, tokens=64)


def test_an_epoch_holds_every_index_once_in_another_order_than_the_next() -> None:
    first, second = (epoch_batches(10, 4, seeding.generator(0, "sft", epoch)) for epoch in (0, 1))
    assert [len(batch) for batch in first] == [4, 4, 2]
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(10))
    assert first != second


def test_a_logprob_stands_at_its_own_token() -> None:
    logits = torch.log(torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.2, 0.7], [1.0, 1.0, 1.0]]]))
    logprobs = logprobs_of(logits, torch.tensor([[0, 1, 2]]))
    torch.testing.assert_close(logprobs, torch.tensor([[0.0, math.log(0.25), math.log(0.7)]]))


def test_entropy_of_a_fair_choice_is_the_log_of_the_choices() -> None:
    torch.testing.assert_close(entropy_of(torch.zeros(1, 3, 8)), torch.tensor([[0.0, math.log(8), math.log(8)]]))


def test_kl_estimators_agree_with_the_exact_divergence_on_eight_tokens() -> None:
    draw = torch.Generator().manual_seed(0)
    ours, theirs = torch.randn(2, 8, generator=draw).mul(0.5).log_softmax(-1)
    chosen = torch.multinomial(ours.exp(), 40_000, replacement=True, generator=draw)
    exact = exact_kl(ours.expand(1, 2, 8), theirs.expand(1, 2, 8))[0, 1]
    for estimator in (k1, k3):
        estimates = estimator(ours[chosen], theirs[chosen])
        assert abs(estimates.mean() - exact) < 3 * estimates.std() / len(chosen) ** 0.5
    assert (k3(ours[chosen], theirs[chosen]) >= 0).all()


def test_a_masked_sum_ignores_what_does_not_count_even_if_it_is_not_a_number() -> None:
    values = torch.tensor([1.0, math.nan, 3.0, math.inf])
    assert masked_sum(values, torch.tensor([True, False, True, False])) == 4
    assert masked_sum(values, torch.zeros(4, dtype=torch.bool)) == 0


def test_prompt_tokens_get_no_gradient_of_their_own(policy: Policy) -> None:
    batch = Batch(*collate([Rendered([10, 11, 12], [13, 14])], pad_id=0))
    logits = policy(batch.tokens, batch.attention).detach().requires_grad_()
    masked_sum(logprobs_of(logits, batch.tokens), batch.response).backward()
    assert logits.grad is not None
    assert logits.grad[0, :2].abs().sum() == 0  # these predict prompt tokens
    assert (logits.grad[0, 2:4].abs().sum(-1) > 0).all()


def test_draws_differ_by_name_and_repeat_by_name() -> None:
    names = [(0, "ppo", 1, "a", 0), (0, "ppo", 1, "a", 1), (0, "ppo", 2, "a", 0), (0, "sft", 1, "a", 0)]
    rows = [seeding.uniforms(4, seeding.generator(*name)).tolist() for name in names]
    assert len({tuple(row) for row in rows}) == 4
    assert rows[0] == seeding.uniforms(4, seeding.generator(*names[0])).tolist()
