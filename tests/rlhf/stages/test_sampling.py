"""Drawing answers: each on its own numbers, from the whole distribution, up to its first end id; and the stage."""

from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaModel

from tests.rlhf.conftest import MakeRun
from tests.rlhf.data.test_chat import whole_pieces
from training.rlhf import seeding
from training.rlhf.__main__ import main
from training.rlhf.data.batching import collate
from training.rlhf.data.chat import Chat, Rendered
from training.rlhf.data.records import Prompt, read_completions
from training.rlhf.exits import InvalidInput
from training.rlhf.networks.policy import Policy, load_policy, token_logprobs
from training.rlhf.networks.scalar_model import ScalarModel
from training.rlhf.stages.sampling import SampledAnswer, SampledTokens, generate, inverse_cdf
from training.rlhf.stages.scoring import Scorer

QUESTIONS = ["How do I treat my headache?", "What is a fox?", "Where does the rain come from, and when?", "Why?"]
LONGEST = 24


def draw(policy: Policy, chat: Chat, count: int, cache_mb: int = 1000) -> tuple[list[list[int]], list[SampledTokens]]:
    prompts = [
        chat.prompt_ids([{"role": "user", "content": QUESTIONS[number % len(QUESTIONS)]}]) for number in range(count)
    ]
    draws = [seeding.generator(0, "test", 0, "p", number) for number in range(count)]
    return prompts, generate(policy, chat, prompts, draws, LONGEST, cache_mb, lambda: None)


@torch.no_grad()
def sampler_gap(policy: Policy, chat: Chat, count: int) -> Tensor:
    """(N,) of every drawn token, its log-probability by the training forward less that by the sampler."""
    prompts, answers = draw(policy, chat, count)
    rendered = [Rendered(prompt, answer.response) for prompt, answer in zip(prompts, answers, strict=True)]
    batch = collate(rendered, chat.pad_id)
    sampled = torch.tensor([nats for answer in answers for nats in answer.logprobs])
    return token_logprobs(policy, batch)[batch.response] - sampled


def test_an_answer_is_the_same_alone_and_in_a_batch(policy: Policy, chat: Chat) -> None:
    _, together = draw(policy, chat, 32)
    _, alone = draw(policy, chat, 8, cache_mb=0)
    assert [answer.response for answer in together[:8]] == [answer.response for answer in alone]


def test_the_sampler_and_the_training_forward_agree(policy: Policy, chat: Chat) -> None:
    gap = sampler_gap(policy, chat, 16)
    assert gap.abs().max() <= 1e-5


def test_the_sampler_and_the_training_forward_agree_in_bf16(model_dir: Path, chat: Chat) -> None:
    gap = sampler_gap(load_policy(model_dir, chat, "bf16"), chat, 16)
    assert gap.abs().max() <= 2e-2
    assert gap.mean().abs() <= 1e-3


def test_before_any_update_the_ratio_is_one_on_average_over_ten_thousand_tokens(policy: Policy, chat: Chat) -> None:
    ratios = sampler_gap(policy, chat, 600).exp()
    assert len(ratios) >= 10_000
    assert abs(ratios.mean() - 1) <= 1e-3


def test_answers_are_drawn_from_the_whole_distribution(policy: Policy, chat: Chat) -> None:
    prompt = chat.prompt_ids([{"role": "user", "content": QUESTIONS[0]}])
    count = 20_000
    uniforms = seeding.uniforms(count, seeding.generator(0, "test"))
    logits = policy.logits(torch.tensor([prompt]), torch.ones(1, len(prompt), dtype=torch.bool))[0, -1]
    drawn = inverse_cdf(logits.softmax(-1).expand(count, -1), uniforms).bincount(minlength=chat.vocab_size)
    expected = logits.softmax(-1) * count
    chi_squared = ((drawn - expected).square() / expected).sum().item()
    freedom = chat.vocab_size - 1
    assert abs(chi_squared - freedom) < 5 * (2 * freedom) ** 0.5


@torch.no_grad()
def test_each_token_is_drawn_from_the_training_forward_pass_at_temperature_one(policy: Policy, chat: Chat) -> None:
    """At temperature 1, with no token left out: the distribution is that of the training forward pass."""
    prompts, answers = draw(policy, chat, 8)
    for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        uniforms = seeding.uniforms(LONGEST, seeding.generator(0, "test", 0, "p", number))[: len(answer.response)]
        ids = torch.tensor([prompt + answer.response])
        logits = policy.logits(ids, torch.ones_like(ids, dtype=torch.bool))[0, len(prompt) - 1 : -1]
        reached = logits.double().softmax(-1).cumsum(-1)
        chosen = torch.tensor(answer.response)[:, None]
        above = reached.gather(1, chosen).squeeze(1)
        below = above - logits.double().softmax(-1).gather(1, chosen).squeeze(1)
        assert ((below - 1e-6 <= uniforms) & (uniforms <= above + 1e-6)).all()


def test_an_impossible_token_is_never_drawn() -> None:
    probabilities = torch.tensor([[0.0, 0.5, 0.0, 0.5, 0.0]]).expand(3, -1)
    extremes = torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.float64)
    assert inverse_cdf(probabilities, extremes).tolist() == [1, 3, 3]


@pytest.mark.parametrize("vocabulary", [5, 64, 100])
def test_logits_that_are_not_finite_still_give_an_id(vocabulary: int) -> None:
    nothing = torch.full((2, vocabulary), torch.nan)
    assert all(0 <= drawn < vocabulary for drawn in inverse_cdf(nothing, torch.tensor([0.0, 0.9])).tolist())


def test_an_answer_ends_with_its_first_stop_id_or_is_cut(policy: Policy, chat: Chat) -> None:
    _, answers = draw(policy, chat, 96)
    assert {answer.stopped for answer in answers} == {True, False}
    for answer in answers:
        assert not chat.stop_ids & set(answer.response[:-1])
        assert answer.stopped == (answer.response[-1] in chat.stop_ids)
        assert answer.stopped or len(answer.response) == LONGEST
        assert len(answer.logprobs) == len(answer.response)


class LivingLogits(TorchDispatchMode):
    """Follows the tensors whose last dimension is the vocabulary; `most` is what lived at once, in numbers."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size, self.most = vocab_size, 0
        self._living: WeakValueDictionary[int, Tensor] = WeakValueDictionary()  # by id: tensors compare their numbers

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.dim() and result.shape[-1] == self.vocab_size:
            self._living[id(result)] = result
            self.most = max(self.most, sum(tensor.numel() for tensor in self._living.values()))
        return result


def test_a_longer_answer_holds_no_more_logits(models: dict[str, Path]) -> None:
    """They are reduced to the log-probability of the drawn token at each step, and never kept or stacked."""
    chat = Chat.load(models["gpt2"])
    policy = load_policy(models["gpt2"], chat, "fp32")
    prompts = [chat.prompt_ids([{"role": "user", "content": text}]) for text in QUESTIONS]
    most = []
    for longest in (3, 60):
        draws = [seeding.generator(0, "test", 0, "p", number) for number in range(len(prompts))]
        with LivingLogits(chat.vocab_size) as logits:
            answers = generate(policy, chat, prompts, draws, longest, 100_000, lambda: None)
        assert max(len(answer.response) for answer in answers) > longest // 2
        most.append(logits.most)
    assert most[0] == most[1] > 0


def prompts(count: int) -> list[dict[str, Any]]:
    return [
        {"id": f"p{number}", "messages": [{"role": "user", "content": f"{QUESTIONS[number % 4]} {number}"}]}
        for number in range(count)
    ]


def test_a_slate_takes_three_quarters_from_the_policy_and_the_rest_from_its_parent(
    make_run: MakeRun, models: dict[str, Path], tmp_path: Path
) -> None:
    parents = {"policy": models["llama"], "parent": models["llama"]}
    run = make_run("sampling", parents=parents, data={"prompts": prompts(3)}, k=5, max_response=8)
    assert main(["sampling", str(run)]) == 0
    rows = read_completions(run / "attempts/1/output/completions.jsonl")
    assert [(row.prompt_id, row.index) for row in rows] == [(f"p{n}", i) for n in range(3) for i in range(5)]
    assert [row.policy for row in rows] == 3 * (4 * ["policy"] + ["parent"])
    assert all(row.logprob < 0 and row.n_tokens <= 8 and row.reward is None for row in rows)
    again = make_run("sampling", parents=parents, data={"prompts": prompts(3)}, k=5, max_response=8, name="again")
    assert main(["sampling", str(again)]) == 0
    assert read_completions(again / "attempts/1/output/completions.jsonl") == rows


def test_a_policy_that_repeats_itself_gets_a_smaller_slate_or_none(
    make_run: MakeRun, models: dict[str, Path], tmp_path: Path
) -> None:
    chat = Chat.load(models["gpt2"])
    policy = load_policy(models["gpt2"], chat, "fp32")
    with torch.no_grad():
        policy.network.lm_head.weight[:] = 0
        policy.network.transformer.wte.weight[:] = 0
        policy.network.transformer.ln_f.bias[:] = 1
        policy.network.lm_head.weight[chat.eos_id] = 3.0  # a logit of 96 against 0
    policy.network.save_pretrained(tmp_path / "mute")
    chat.save(tmp_path / "mute")
    run = make_run("sampling", parents={"policy": tmp_path / "mute"}, data={"prompts": prompts(2)}, k=3, max_response=4)
    assert main(["sampling", str(run)]) == 0
    assert read_completions(run / "attempts/1/output/completions.jsonl") == []


@pytest.mark.parametrize("k", [1, 10])
def test_a_slate_has_two_to_nine_completions(make_run: MakeRun, models: dict[str, Path], k: int) -> None:
    assert main(["sampling", str(make_run("sampling", parents={"policy": models["gpt2"]}, k=k))]) == 77


def test_a_sampled_answer_whose_text_cannot_be_encoded_is_scored_all_the_same() -> None:
    chat = whole_pieces()
    trunk = LlamaModel(LlamaConfig(vocab_size=chat.vocab_size, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                                   num_attention_heads=2, pad_token_id=None))  # fmt: skip
    scorer = Scorer(ScalarModel(trunk, "fp32"), chat, 512, lambda: None)
    prompt = Prompt(id="1", messages=[{"role": "user", "content": "Why?"}])
    sampled = SampledAnswer("policy", prompt, 0, SampledTokens([4, 5, 7], [-1.0] * 3, stopped=True), "<s>")
    assert torch.isfinite(scorer.scores([sampled.answer])).all()
    with pytest.raises(InvalidInput):
        scorer.scores([sampled.answer._replace(sampled=None)])
