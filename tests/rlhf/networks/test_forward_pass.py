"""The forward pass: the same numbers whatever the padding, the batch and the forward pass before it."""

from pathlib import Path

import pytest
import torch

from training.rlhf import seeding
from training.rlhf.data.batching import collate
from training.rlhf.data.chat import Chat, Rendered
from training.rlhf.networks.policy import Policy, load_policy, token_logprobs
from training.rlhf.networks.scalar_model import scalar_from_policy

QUESTION = [{"role": "user", "content": "How do I treat my headache?"}]
SHORT = [{"role": "user", "content": "And a wolf?"}]


@pytest.fixture
def rendered(chat: Chat) -> list[Rendered]:
    return [
        chat.rendered(QUESTION, "Drink water and rest.", stopped=True),
        chat.rendered(SHORT, "A dog.", stopped=True),
        chat.rendered(QUESTION, "Rest", stopped=False),
    ]


@pytest.mark.parametrize("padding", [0, 7, 64])
@pytest.mark.parametrize("side", ["left", "right"])
def test_logits_do_not_depend_on_padding(policy: Policy, rendered: list[Rendered], padding: int, side: str) -> None:
    ids = rendered[0].prompt + rendered[0].response
    alone = policy.logits(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool))
    pad, real = torch.full((1, padding), 3), torch.tensor([ids])
    nothing, everything = torch.zeros(1, padding, dtype=torch.bool), torch.ones(1, len(ids), dtype=torch.bool)
    order = slice(None, None, 1 if side == "left" else -1)
    padded = policy.logits(torch.cat([pad, real][order], dim=1), torch.cat([nothing, everything][order], dim=1))
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
    scores = model(together)
    for row, sample in enumerate(rendered):
        alone = collate([sample], chat.pad_id)
        torch.testing.assert_close(scores[row, : sample.length], model(alone)[0], atol=1e-5, rtol=0)


def test_in_bf16_scores_depend_on_the_batch_by_little_beside_their_spread(
    model_dir: Path, chat: Chat, rendered: list[Rendered]
) -> None:
    model = scalar_from_policy(load_policy(model_dir, chat, "bf16"), "bf16", seeding.generator(0, "test"))
    together = collate(rendered * 6, chat.pad_id)
    scores = model(together)
    spread = scores[together.attention].std()
    for row, sample in enumerate(rendered):
        alone = collate([sample], chat.pad_id)
        gap = scores[row, : sample.length] - model(alone)[0]
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


def test_two_forward_passes_are_bitwise_equal(policy: Policy, chat: Chat, rendered: list[Rendered]) -> None:
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
    values, others = model.values(batch), model.values(batch._replace(tokens=changed))
    assert torch.equal(values[0, : t + 1], others[0, : t + 1])
    assert not torch.equal(values[0, t + 1 :], others[0, t + 1 :])


def test_ids_that_no_text_can_have_get_no_probability(models: dict[str, Path]) -> None:
    chat = Chat.load(models["qwen2"])
    policy = load_policy(models["qwen2"], chat, "fp32")
    assert policy.network.config.vocab_size > chat.vocab_size
    logits = policy.logits(torch.tensor([[1, 2, 3]]), torch.ones(1, 3, dtype=torch.bool))
    assert logits.shape[-1] == chat.vocab_size
    torch.testing.assert_close(logits.softmax(-1).sum(-1), torch.ones(1, 3))


def test_only_answer_tokens_are_read(policy: Policy, chat: Chat) -> None:
    batch = collate([Rendered([10, 11, 12], [13, 14]), Rendered([], [15, 16, 17])], chat.pad_id)
    with torch.no_grad():
        logprobs = policy(batch)
        every = policy.logits(batch.tokens, batch.attention).log_softmax(-1)
    assert logprobs.nonzero().tolist() == [[0, 3], [0, 4], [1, 1], [1, 2]]  # nothing precedes the first of all
    assert logprobs[0, 3] == pytest.approx(every[0, 2, 13].item(), abs=1e-5)
    assert logprobs[1, 1] == pytest.approx(every[1, 0, 16].item(), abs=1e-5)
