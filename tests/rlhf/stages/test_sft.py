"""Supervised fine-tuning: what is learnt, from which tokens, and that the cut into micro-batches changes nothing."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.rlhf.conftest import MakeRun
from training.rlhf.__main__ import main
from training.rlhf.data.batching import collate
from training.rlhf.data.chat import Chat, Rendered
from training.rlhf.data.records import Demonstration
from training.rlhf.exits import InvalidInput
from training.rlhf.networks.policy import Policy, load_policy, token_logprobs
from training.rlhf.stages.learner import Learner
from training.rlhf.stages.sft import render, train_step

THINGS = [
    *("egg", "fox", "rain", "dog", "cloud", "sea", "bread", "coat"),
    *("water", "bed", "hand", "door", "lamp", "cat", "song", "road"),
]


def demonstrations(count: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"d{number}",
            "messages": [{"role": "user", "content": f"What is {THINGS[number % 16]} {number // 16}?"}],
            "response": f"The {THINGS[number % 16]} is {THINGS[(number * 7 + 3) % 16]}"
            + " indeed" * (number % 4)
            + ".",
        }
        for number in range(count)
    ]


def gradients(policy: Policy, chat: Chat, batch: list[Rendered], batch_tokens: int) -> list[torch.Tensor]:
    learner = Learner(policy, "policy")
    kept: list[torch.Tensor] = []
    learner.optimizer.register_step_pre_hook(
        lambda *_: kept.extend(p.grad.clone() for p in policy.parameters() if p.grad is not None)
    )
    train_step(policy, learner, batch, 0.0, chat.pad_id, batch_tokens, lambda: None)
    return kept


def test_micro_batches_give_the_gradient_of_the_whole_batch(policy: Policy, chat: Chat) -> None:
    rows = [Demonstration(**row) for row in demonstrations(8)]
    batch = render(rows, chat, 32).used
    assert len({sample.length for sample in batch}) > 3
    whole, parts = gradients(policy, chat, batch, 100_000), gradients(policy, chat, batch, 1)
    for ours, theirs in zip(whole, parts, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


@torch.no_grad()
def nats_of_answer(policy: Policy, sample: Rendered) -> list[float]:
    """The log-probability of each answer token, from this sequence alone and one token after the other."""
    ids = sample.prompt + sample.response
    logits = policy.logits(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool))[0].double()
    start = len(sample.prompt)
    return [logits[at - 1].log_softmax(-1)[ids[at]].item() for at in range(start, len(ids))]


def test_the_loss_is_the_mean_over_the_tokens_of_all_answers_and_none_of_the_prompts(
    policy: Policy, chat: Chat
) -> None:
    batch = render([Demonstration(**row) for row in demonstrations(5)], chat, 32).used
    nats = [each for sample in batch for each in nats_of_answer(policy, sample)]
    for batch_tokens in (1, 100, 100_000):
        loss = train_step(policy, Learner(policy, "policy"), batch, 0.0, chat.pad_id, batch_tokens, lambda: None)
        assert loss == pytest.approx(-sum(nats) / len(nats), abs=1e-5)


def test_a_demonstration_that_is_cut_has_no_end_to_learn(chat: Chat) -> None:
    row = Demonstration(id="d", messages=[{"role": "user", "content": "Why?"}], response="Because " * 30)
    filtered = render([row], chat, max_response=10)
    (cut,) = filtered.used
    assert len(cut.response) == 10
    assert chat.eos_id not in cut.response
    assert filtered.counts == {"too_long": 0, "refused": 0, "cut": 1}


def test_an_answer_that_the_context_cuts_is_counted_as_cut(chat: Chat) -> None:
    row = Demonstration(id="d", messages=[{"role": "user", "content": "Why?"}], response="Because " * 300)
    room = chat.context - len(chat.prompt_ids(row.messages))
    filtered = render([row], chat, max_response=room)
    assert len(filtered.used[0].response) == room
    assert filtered.counts == {"too_long": 0, "refused": 0, "cut": 1}


def test_an_answer_that_just_fits_is_not_cut(chat: Chat) -> None:
    row = Demonstration(id="d", messages=[{"role": "user", "content": "Why?"}], response="Because.")
    length = len(chat.rendered(row.messages, row.response, stopped=True).response)
    assert render([row], chat, max_response=length).counts["cut"] == 0
    assert render([row], chat, max_response=length - 1).counts["cut"] == 1


def test_over_long_prompts_are_dropped_whole_and_many_of_them_refused(chat: Chat) -> None:
    long = Demonstration(id="x", messages=[{"role": "user", "content": "why " * 200}], response="So.")
    short = [Demonstration(**row) for row in demonstrations(32)]
    filtered = render([*short, long], chat, 32)
    assert len(filtered.used) == filtered.metrics()["data/used"] == 32
    assert filtered.counts["too_long"] == 1
    with pytest.raises(InvalidInput, match="2 of 34"):
        render([*short, long, long], chat, 32)
    with pytest.raises(InvalidInput, match="no usable"):
        render([long], chat, 32)


def test_a_model_that_has_learnt_its_demonstrations_by_heart_repeats_and_ends_them(
    make_run: MakeRun, model_dir: Path
) -> None:
    rows = demonstrations(32)
    run = make_run(
        "sft",
        parents={"base": model_dir},
        data={"demonstrations": rows},
        epochs=90,
        batch_size=16,
        learning_rate=1e-2,
        max_response=40,
    )
    assert main(["sft", str(run)]) == 0
    output = run / "attempts/1/output"
    chat = Chat.load(output)
    policy = load_policy(output, chat, "fp32")
    batch = collate(render([Demonstration(**row) for row in rows], chat, 40).used, chat.pad_id)
    assert (batch.tokens == chat.eos_id)[batch.response].sum() == 32
    with torch.no_grad():
        # Each token more likely than all others together, the end included: decoding could only repeat them.
        assert (token_logprobs(policy, batch)[batch.response] > math.log(0.5)).all()
