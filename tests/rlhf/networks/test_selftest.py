"""The self-test of a policy's numbers: it passes where they are right, and names what is wrong with them."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from tests.rlhf.conftest import MakeRun
from tests.rlhf.reward_runs import demonstration, question
from training.rlhf import seeding
from training.rlhf.__main__ import main
from training.rlhf.data.chat import Chat
from training.rlhf.exits import InvalidInput
from training.rlhf.networks import attention, selftest
from training.rlhf.networks.decoding import BatchDecoding
from training.rlhf.networks.policy import Policy, load_policy
from training.rlhf.stages.sampling import generate

LONGEST_SAMPLE = max(map(sum, zip(selftest.PROMPTS, selftest.ANSWERS, strict=True)))
PROMPTS = [{"id": n, "messages": question(n)} for n in range(4)]


@contextmanager
def inner(module: nn.Module, see: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """A network one of whose modules gives something else."""
    handle = module.register_forward_hook(lambda _, __, result: see(result))
    try:
        yield
    finally:
        handle.remove()


def refused(policy: Policy, chat: Chat) -> InvalidInput:
    with pytest.raises(InvalidInput) as refusal:
        selftest.check(policy, chat)
    assert "\n" not in str(refusal.value)
    return refusal.value


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_policy_in_order_passes(model_dir: Path, chat: Chat, dtype: str) -> None:
    measures = selftest.check(load_policy(model_dir, chat, dtype), chat)
    assert max(measures) < 1e-5


def test_who_looks_ahead_is_refused(policy: Policy, chat: Chat) -> None:
    def mix_with_the_next(result: Tensor) -> Tensor:
        return result + 0.1 * result.roll(-1, dims=1)

    with inner(policy.network.get_input_embeddings(), mix_with_the_next):
        assert refused(policy, chat).kind == "selftest_causal"


def test_who_reads_padding_or_other_samples_is_refused(policy: Policy, chat: Chat) -> None:
    def read_the_neighbours(result: Tensor) -> Tensor:
        several_samples = len(result[..., 0].flatten()) > LONGEST_SAMPLE
        return result + 0.5 * result.mean(dim=(0, 1), keepdim=True) * several_samples

    with inner(policy.network.get_input_embeddings(), read_the_neighbours):
        assert refused(policy, chat).kind == "selftest_padded"


def test_a_sampler_that_reads_otherwise_than_the_training_forward_is_refused(policy: Policy, chat: Chat) -> None:
    def another_when_decoding(result: Tensor) -> Tensor:
        return result * (1.5 if result.shape[1] == 1 else 1.0)

    with inner(policy.network.get_input_embeddings(), another_when_decoding):
        refusal = refused(policy, chat)
    assert refusal.kind == "selftest_cached"
    assert refusal.numbers["measured"] > refusal.numbers["limit"]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_logits_that_are_no_numbers_are_refused(policy: Policy, chat: Chat, value: float) -> None:
    with inner(policy.network.get_input_embeddings(), lambda result: result * value):
        assert refused(policy, chat).kind == "selftest_not_finite"


def test_a_network_that_breaks_is_refused_in_its_own_words(policy: Policy, chat: Chat) -> None:
    def break_down(result: Tensor) -> Tensor:
        raise ValueError("no such input\nat line 7")

    with inner(policy.network.get_input_embeddings(), break_down):
        refusal = refused(policy, chat)
    assert refusal.kind == "selftest_error"
    assert str(refusal).endswith("ValueError: no such input at line 7")


def test_memory_that_runs_out_is_not_blamed_on_the_model(policy: Policy, chat: Chat) -> None:
    def run_out(result: Tensor) -> Tensor:
        raise RuntimeError("CUDA out of memory")

    with inner(policy.network.get_input_embeddings(), run_out), pytest.raises(RuntimeError, match="out of memory"):
        selftest.check(policy, chat)


def test_a_policy_that_cannot_decode_in_slots_decodes_in_batches(
    policy: Policy, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert policy.trunk.packs
    monkeypatch.setattr(attention, "_layer_of", lambda module: 0)  # layers that do not know which one they are
    assert max(selftest.check(policy, chat)) < 1e-5
    assert not policy.trunk.packs


def test_a_cache_that_forgets_a_row_keeps_its_rows_from_then_on(
    policy: Policy, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some hybrid networks keep states of their own, which no cache can select from."""
    policy.trunk.stop_packing()
    new_cache = policy.new_cache

    def forgetful() -> Any:
        cache = new_cache()
        cache.reorder_cache = lambda rows: [layer.reorder_cache(rows.flip(0)) for layer in cache.layers]
        return cache

    monkeypatch.setattr(policy, "new_cache", forgetful)
    assert max(selftest.check(policy, chat)) < 1e-5
    assert not policy.cache_drops_rows


def test_answers_are_the_same_in_slots_and_in_batches_whose_rows_leave_or_stay(policy: Policy, chat: Chat) -> None:
    prompts = [chat.prompt_ids(question(number)) for number in range(24)]  # type: ignore[arg-type]

    def draw() -> list[list[int]]:
        draws = [seeding.generator(0, "test", number) for number in range(len(prompts))]
        return [one.response for one in generate(policy, chat, prompts, draws, 64, 1000, report_progress=lambda: None)]

    assert policy.trunk.packs
    drawn = [draw()]
    policy.trunk.stop_packing()
    for policy.cache_drops_rows in (True, False):
        drawn.append(draw())
    assert drawn[0] == drawn[1] == drawn[2]
    assert len({len(one) for one in drawn[0]}) > 1  # so some rows had left


def test_rows_that_stay_are_read_but_not_heard(policy: Policy, chat: Chat) -> None:
    policy.trunk.stop_packing()
    policy.cache_drops_rows = False
    decoding = BatchDecoding(policy, 3, chat.pad_id)
    decoding.join([[10, 11, 12], [13], [14, 15]])
    assert len(decoding.next_logits()) == 3
    decoding.append(torch.tensor([20, 21, 22]), torch.tensor([0, 2]))
    assert len(decoding.next_logits()) == 2
    decoding.append(torch.tensor([23, 24]), torch.tensor([1]))
    (heard,) = decoding.next_logits()
    alone = policy.logits(torch.tensor([[14, 15, 22, 24]]), torch.ones(1, 4, dtype=torch.bool))[0, -1]
    torch.testing.assert_close(heard, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("stage", ["sft", "reward", "sampling", "evaluation"])
def test_every_stage_tests_the_policy_that_it_loads(
    make_run: MakeRun, models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    spoilt = shutil.copytree(models["llama"], tmp_path / "spoilt")
    weights = safetensors.torch.load_file(spoilt / "model.safetensors")
    weights["model.norm.weight"][3] = torch.nan
    safetensors.torch.save_file(weights, spoilt / "model.safetensors", {"format": "pt"})
    slate = {
        "slate_id": 1,
        "prompt_id": 1,
        "messages": question(1),
        "completions": [{"text": text, "finish_reason": "stop"} for text in ("So.", "No.")],
        "judgements": [{"id": 1, "annotator": 1, "round": 1, "places": [1, 2]}],
    }
    roles = {"sft": ["base"], "evaluation": ["policy", "reference"]}.get(stage, ["policy"])
    data = {
        "sft": {"demonstrations": [demonstration(1)]},
        "reward": {"rankings": [slate]},
        "sampling": {"prompts": PROMPTS},
        "evaluation": {"heldout_prompts": PROMPTS},
    }
    run = make_run(stage, parents=dict.fromkeys(roles, spoilt), data=data[stage], max_response=16)
    assert main([stage, str(run)]) == 77
    assert "the model's weights are not finite" in capsys.readouterr().err.splitlines()[-1]
