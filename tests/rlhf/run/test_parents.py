"""Every parent of a stage has its own part to play: parents that differ show who plays which."""

from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.rlhf import tiny_models
from tests.rlhf.conftest import MakeRun
from tests.rlhf.reward_runs import question
from tests.rlhf.stages.test_ppo_stage import PROMPTS, SMALL, metrics_of
from training.rlhf.__main__ import main
from training.rlhf.config import SamplingConfig
from training.rlhf.data.batching import collate
from training.rlhf.data.chat import Chat, Rendered
from training.rlhf.data.records import SampledCompletion, read_completions
from training.rlhf.networks.policy import load_policy
from training.rlhf.stages.sampling import REDRAWS, numbers_by_role

HELD_OUT = [{"id": n, "messages": question(100 + n)} for n in range(4)]


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two more models of the family llama: the same tokenizer, other weights. Read only."""
    root = tmp_path_factory.mktemp("others")
    return [tiny_models.build("llama", root / str(seed), seed=seed) for seed in (1, 2)]


def test_the_critic_of_ppo_starts_from_the_reward_model_and_not_from_the_policy(
    make_run: MakeRun, models: dict[str, Path], reward_models: dict[str, Path], others: list[Path]
) -> None:
    parents = {"policy": others[0], "reference": models["llama"], "reward": reward_models["llama"]}
    sizes = {**SMALL, "iterations": 1, "value_learning_rate": 1e-12}
    run = make_run("ppo", parents=parents, data={"prompts": PROMPTS}, kl_limit=1e9, **sizes)
    assert main(["ppo", str(run)]) == 0
    critic = load_file(run / "attempts/1/checkpoints/step-000001/critic.safetensors")
    trunk = load_file(reward_models["llama"] / "model.safetensors")
    head = load_file(reward_models["llama"] / "head.safetensors")
    expected = {f"backbone.{name.removeprefix('model.')}": tensor for name, tensor in trunk.items()}
    expected |= {f"head.{name}": head[name] for name in ("weight", "bias")}
    assert critic.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(critic[name], tensor, atol=1e-6, rtol=0, msg=name)
    assert not torch.allclose(
        trunk["embed_tokens.weight"], load_file(others[0] / "model.safetensors")["model.embed_tokens.weight"]
    )


@pytest.fixture
def evaluate(
    make_run: MakeRun, models: dict[str, Path], reward_models: dict[str, Path], others: list[Path]
) -> Callable[[int], Path]:
    """Run an evaluation whose policy, reference and parent are three models, with answers of so many tokens at most."""
    parents = {"policy": others[0], "reference": models["llama"], "parent": others[1], "reward": reward_models["llama"]}

    def run(longest: int) -> Path:
        data = {"heldout_prompts": HELD_OUT, "heldout_rankings": []}
        run = make_run("evaluation", parents=parents, data=data, draws=3, max_response=longest)
        assert main(["evaluation", str(run)]) == 0
        return run

    return run


def rows_by_role(run: Path) -> dict[str, list[SampledCompletion]]:
    found = defaultdict(list)
    for row in read_completions(run / "attempts/1/output/completions.jsonl"):
        found[row.policy].append(row)
    return found


@torch.no_grad()
def test_evaluation_measures_the_policy_against_its_reference_and_nothing_else(
    evaluate: Callable[[int], Path],
) -> None:
    evaluated = evaluate(10)
    rows = rows_by_role(evaluated)
    (metrics,) = metrics_of(evaluated)
    assert {role: len(found) for role, found in rows.items()} == {"policy": 12, "reference": 12, "parent": 12}
    assert metrics["proxy/reward"] == pytest.approx(sum(row.reward for row in rows["policy"]) / 12, abs=1e-5)
    mean = sum(row.reward for row in rows["reference"]) / 12
    assert metrics["proxy/reference_reward"] == pytest.approx(mean, abs=1e-5)
    won = [
        (mine.reward > theirs.reward) + (mine.reward == theirs.reward) / 2
        for mine in rows["policy"]
        for theirs in rows["reference"]
        if mine.prompt_id == theirs.prompt_id
    ]
    assert metrics["proxy/win_rate"] == pytest.approx(sum(won) / len(won))
    assert metrics["heldout/length"] == sum(row.n_tokens for row in rows["policy"]) / 12
    assert metrics["heldout/reference_length"] == sum(row.n_tokens for row in rows["reference"]) / 12


@torch.no_grad()
def test_the_divergence_is_that_of_the_policy_from_its_reference_on_the_policys_own_answers(
    evaluate: Callable[[int], Path], models: dict[str, Path], others: list[Path]
) -> None:
    evaluated = evaluate(1)
    chat = Chat.load(models["llama"])
    policy, reference = (load_policy(path, chat, "fp32") for path in (others[0], models["llama"]))
    messages = {str(prompt["id"]): prompt["messages"] for prompt in HELD_OUT}
    compared = 0
    for row in rows_by_role(evaluated)["policy"]:
        answer = chat.rendered(messages[row.prompt_id], row.text, row.finish_reason == "stop")
        if len(answer.response) != row.n_tokens:
            continue  # the text would be cut into other tokens than were drawn
        batch = collate([Rendered(answer.prompt, answer.response)], chat.pad_id)
        p, q = (network.logits(batch.tokens, batch.attention).log_softmax(-1) for network in (policy, reference))
        at = len(answer.prompt) - 1  # the logits before each answer token
        here = slice(at, at + row.n_tokens)
        kl = (p[0, here].exp() * (p[0, here] - q[0, here])).sum().item()  # sum of p log(p/q) over the vocabulary
        assert row.kl == pytest.approx(kl, rel=1e-3)
        compared += 1
    assert compared > 3
    (metrics,) = metrics_of(evaluated)
    kls = [row.kl for row in rows_by_role(evaluated)["policy"]]
    assert metrics["heldout/kl"] == pytest.approx(sum(kls) / len(kls), rel=1e-6) and metrics["heldout/kl"] > 0.01


@pytest.mark.parametrize("k", range(2, 10))
def test_the_parent_writes_what_three_quarters_rounded_up_leave(k: int) -> None:
    cfg = SamplingConfig(seed=0, k=k, parents=dict.fromkeys(("policy", "parent")))
    shares = {role: len(numbers) for role, numbers in numbers_by_role(cfg).items()}
    expected = {2: (2, 0), 3: (3, 0), 4: (3, 1), 5: (4, 1), 6: (5, 1), 7: (6, 1), 8: (6, 2), 9: (7, 2)}[k]
    assert (shares.get("policy", 0), shares.get("parent", 0)) == expected
    assert sorted(number for numbers in numbers_by_role(cfg).values() for number in numbers) == list(range(k))


def test_each_share_of_a_slate_is_written_by_the_model_it_is_said_to_be(
    make_run: MakeRun, models: dict[str, Path], others: list[Path]
) -> None:
    """The log-probabilities tell who wrote: only one of the models gives an answer just this one."""
    parents = {"policy": others[0], "parent": others[1]}
    run = make_run("sampling", parents=parents, data={"prompts": PROMPTS}, k=8, max_response=1)
    assert main(["sampling", str(run)]) == 0
    chat = Chat.load(models["llama"])
    networks = {role: load_policy(path, chat, "fp32") for role, path in parents.items()}
    messages = {str(prompt["id"]): prompt["messages"] for prompt in PROMPTS}
    written: Counter[str] = Counter()
    for row in read_completions(run / "attempts/1/output/completions.jsonl"):
        answer = chat.rendered(messages[row.prompt_id], row.text, row.finish_reason == "stop")
        if len(answer.response) == row.n_tokens:
            batch = collate([answer], chat.pad_id)
            with torch.no_grad():
                logits = {role: network.logits(batch.tokens, batch.attention) for role, network in networks.items()}
            drawn = torch.tensor(answer.response)
            here = slice(len(answer.prompt) - 1, len(answer.prompt) - 1 + row.n_tokens)
            sums = {
                role: one[0, here].log_softmax(-1).gather(1, drawn[:, None]).sum().item()
                for role, one in logits.items()
            }
            assert sums[row.policy] == pytest.approx(row.logprob, abs=1e-3)
            assert min(sums, key=lambda role: abs(sums[role] - row.logprob)) == row.policy
            written[row.policy] += 1
    assert written["policy"] > 4 and written["parent"] > 1


def test_equal_answers_of_a_slate_are_drawn_again_and_what_stays_equal_is_left_out(
    make_run: MakeRun, models: dict[str, Path], tmp_path: Path
) -> None:
    """A policy with three answers, equally likely: of four draws some are equal nearly always."""
    chat = Chat.load(models["llama"])
    policy = load_policy(models["llama"], chat, "fp32")
    three = {chat.rendered(question(1), letter, stopped=False).response[0] for letter in "abc"}
    assert len(three) == 3
    with torch.no_grad():
        # Every hidden state becomes the same vector of ones, and only three tokens answer to it.
        for layer in policy.network.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        policy.network.model.embed_tokens.weight.fill_(1.0)
        policy.network.lm_head.weight.zero_()
        for token in three:
            policy.network.lm_head.weight[token] = 1.0  # a logit of 32 against 0
    policy.network.save_pretrained(tmp_path / "three")
    chat.save(tmp_path / "three")
    prompts = [{"id": n, "messages": question(n)} for n in range(12)]
    run = make_run("sampling", parents={"policy": tmp_path / "three"}, data={"prompts": prompts}, k=4, max_response=1)
    assert main(["sampling", str(run)]) == 0
    slates = defaultdict(list)
    for row in read_completions(run / "attempts/1/output/completions.jsonl"):
        slates[row.prompt_id].append(row.text)
    assert all(len(texts) == len(set(texts)) and set(texts) <= set("abc") for texts in slates.values())
    # Four draws alone show all three answers in 4 of 9 slates; drawn again where they are equal, they do in all.
    assert REDRAWS == 4
    assert Counter(map(len, slates.values())) == {3: 12}
