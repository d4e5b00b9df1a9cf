"""Decoding in slots: rows join and leave, and none of it shows in an answer."""

import gc
import weakref
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.rlhf import architectures
from training.rlhf import seeding
from training.rlhf.data.chat import Chat
from training.rlhf.networks import attention, decoding
from training.rlhf.networks.decoding import SlotDecoding
from training.rlhf.networks.policy import Policy, load_policy
from training.rlhf.stages import sampling
from training.rlhf.stages.sampling import generate

PROMPTS = [[20 + n % 7, 21, 22, *range(30, 30 + n % 5)] for n in range(40)]
LONGEST = 48


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens of prompts were read each time that some joined."""
    seen: list[int] = []
    join = SlotDecoding.join

    def watched(self: SlotDecoding, prompts: list[list[int]]) -> None:
        seen.append(sum(map(len, set(map(tuple, prompts)))))
        join(self, prompts)

    monkeypatch.setattr(SlotDecoding, "join", watched)
    return seen


def draw(policy: Policy, chat: Chat, prompts: list[list[int]] = PROMPTS) -> list[list[int]]:
    draws = [seeding.generator(0, "test", number) for number in range(len(prompts))]
    return [one.response for one in generate(policy, chat, prompts, draws, LONGEST, 1000, lambda: None)]


@pytest.mark.parametrize("rows", [1, 3, 16])
def test_answers_are_the_same_however_many_are_decoded_at_a_time(
    policy: Policy, chat: Chat, monkeypatch: pytest.MonkeyPatch, read: list[int], rows: int
) -> None:
    expected = draw(policy, chat)
    monkeypatch.setattr(decoding, "MOST_ROWS", rows)
    read.clear()
    assert draw(policy, chat) == expected
    assert len(read) > 1  # some joined while others went on
    assert len(set(map(len, expected))) > 1


def test_few_tokens_of_prompts_are_read_at_once(
    policy: Policy, chat: Chat, monkeypatch: pytest.MonkeyPatch, read: list[int]
) -> None:
    expected = draw(policy, chat)
    monkeypatch.setattr(sampling, "READ_AT_ONCE", 20)
    read.clear()
    assert draw(policy, chat) == expected
    assert max(read) <= 20


def test_a_prompt_with_several_answers_is_read_once(
    policy: Policy, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    causal = attention.causal

    def counted(heads: attention.Heads, options: attention.Options) -> Tensor:
        read.append(heads.query.shape[0] * heads.query.shape[2])
        return causal(heads, options)

    monkeypatch.setattr(attention, "causal", counted)
    answers = draw(policy, chat, [PROMPTS[4]] * 6)
    assert set(read) == {len(PROMPTS[4])}
    assert len(set(map(tuple, answers))) > 1


def test_slots_of_answers_that_ended_are_not_computed_for_long(policy: Policy, chat: Chat) -> None:
    rows = SlotDecoding(policy, 8, 64)
    rows.join(PROMPTS[:8])
    rows.next_logits()
    rows.append(torch.arange(30, 38), torch.tensor([1, 6]))
    logits = rows.next_logits()
    expected = [
        policy.logits(torch.tensor([[*PROMPTS[n], 30 + n]]), torch.ones(1, len(PROMPTS[n]) + 1).bool()) for n in (1, 6)
    ]
    torch.testing.assert_close(logits, torch.stack([one[0, -1] for one in expected]), atol=1e-5, rtol=0)
    assert (rows.room, rows._used) == (6, 2)


@pytest.mark.parametrize("name", ["llama", "a window", "some windows and capped logits"])
def test_products_read_the_cache_as_the_fused_kernel_does(
    chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    model = architectures.build(*architectures.ADOPTED[name], tmp_path / "model")
    policy = load_policy(model, chat, "fp32")
    logits = []
    for is_fused in (True, False):
        monkeypatch.setattr(decoding, "_is_fused", lambda _cache, chosen=is_fused: chosen)
        rows = SlotDecoding(policy, 8, LONGEST)
        rows.join(PROMPTS[:8])
        read = []
        for token in range(30, 30 + 2 * decoding.LENGTH_STEP):  # the cache of products grows meanwhile
            read.append(rows.next_logits())
            rows.append(torch.full((8,), token), torch.arange(8))
        logits.append(torch.stack(read))
    torch.testing.assert_close(logits[0], logits[1], atol=1e-5, rtol=1e-5)


def test_in_bf16_the_sampler_reads_the_weights_as_they_are_after_each_update(chat: Chat, model_dir: object) -> None:
    policy = load_policy(model_dir, chat, "bf16")  # type: ignore[arg-type]
    for _update in range(2):
        sampler = policy.for_sampling()
        for ours, theirs in zip(policy.parameters(), sampler.parameters(), strict=True):
            assert (ours.dtype, theirs.dtype) == (torch.float32, torch.bfloat16)
            assert torch.equal(ours.bfloat16(), theirs)
        for ours, theirs in zip(policy.buffers(), sampler.buffers(), strict=True):
            assert torch.equal(ours, theirs)
        with torch.no_grad():
            for parameter in policy.parameters():
                parameter += 0.5


@pytest.mark.parametrize("recomputes", [False, True])
def test_after_sampling_its_copy_of_the_weights_is_gone_at_once(
    chat: Chat, model_dir: object, recomputes: bool
) -> None:
    policy = load_policy(model_dir, chat, "bf16")  # type: ignore[arg-type]
    if recomputes:
        policy.trunk.checkpoint_activations()
    gc.disable()  # which would only delay what must not be needed
    try:
        copied = [weakref.ref(weight) for weight in policy.for_sampling().parameters()]
        assert not any(weight() is not None for weight in copied)
    finally:
        gc.enable()


def test_the_cache_bounds_how_many_answers_are_written_at_once(policy: Policy) -> None:
    config = policy.network.config
    numbers = 2 * config.num_hidden_layers * config.hidden_size  # keys and values of a token, were no heads grouped
    numbers = numbers * getattr(config, "num_key_value_heads", config.num_attention_heads) // config.num_attention_heads
    assert decoding.rows_that_fit(policy, 1000, cache_mb=10) == 10_000_000 // (4 * numbers * 1000)
    assert decoding.rows_that_fit(policy, 1_000_000, cache_mb=1) == 1
    assert decoding.rows_that_fit(policy, 1, cache_mb=1000) == decoding.MOST_ROWS
