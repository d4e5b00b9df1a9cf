"""Reward, PPO and evaluation as stages: from run directory to run directory, by the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.rlhf.conftest import MakeRun
from tests.rlhf.test_reward import demonstration, question, ranked_slate
from training.rlhf.__main__ import main
from training.rlhf.batching import collate
from training.rlhf.chat import Chat
from training.rlhf.config import PPOConfig
from training.rlhf.networks import load_reward
from training.rlhf.records import read_completions
from training.rlhf.scoring import Answer, Scorer

SMALL = {"iterations": 3, "rollout_size": 8, "minibatch_size": 4, "max_response": 10, "checkpoint_seconds": 0}
PROMPTS = [{"id": n, "messages": question(n)} for n in range(5)]


@pytest.fixture
def reward_model(make_run: MakeRun, models: dict[str, Path]) -> Path:
    data = {"rankings": [ranked_slate(n) for n in range(8)], "demonstrations": [demonstration(n) for n in range(3)]}
    options = {"epochs": 2, "batch_size": 4, "learning_rate": 1e-3, "max_response": 64}
    run = make_run("reward", name="reward", parents={"policy": models["llama"]}, data=data, **options)
    assert main(["reward", str(run)]) == 0
    return run / "attempts/1/output"


@pytest.fixture
def parents(reward_model: Path, models: dict[str, Path]) -> dict[str, Path]:
    return {"policy": models["llama"], "reference": models["llama"], "reward": reward_model}


def lines_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "attempts/1/metrics.jsonl").read_text().splitlines()]


def metrics_of(run: Path) -> list[dict[str, Any]]:
    """What was measured, without what was said of the data beforehand and without lines that tell the step only."""
    return [line["metrics"] for line in lines_of(run) if line["step"] and line["metrics"]]


def test_ppo_publishes_a_policy_and_plots_what_it_did(make_run: MakeRun, parents: dict[str, Path]) -> None:
    run = make_run("ppo", parents=parents, data={"prompts": PROMPTS}, learning_rate=1e-3, **SMALL)
    assert main(["ppo", str(run)]) == 0
    first, *_, last = metrics_of(run)
    assert set(first) == {
        *(f"rollout/{name}" for name in ("reward", "kl", "length", "stop_rate", "entropy")),
        *("rollout/sampler_gap", "rollout/noncanonical"),
        *("policy/loss", "policy/approx_kl", "policy/clip_fraction", "policy/grad_norm"),
        *("value/loss", "value/explained_variance", "skipped_steps"),
    }
    assert first["rollout/kl"] == 0 != last["rollout/kl"]
    assert max(first["rollout/sampler_gap"], last["rollout/sampler_gap"]) < 1e-5
    output = run / "attempts/1/output"
    assert Chat.load(output).template_hash == Chat.load(parents["policy"]).template_hash
    assert any(
        not torch.equal(new, load_file(parents["policy"] / "model.safetensors")[name])
        for name, new in load_file(output / "model.safetensors").items()
    )


def test_ppo_stops_beyond_the_limit_and_publishes_the_policy_before(
    make_run: MakeRun, parents: dict[str, Path]
) -> None:
    options = {**SMALL, "learning_rate": 0.05, "iterations": 6}
    free = make_run("ppo", name="free", parents=parents, data={"prompts": PROMPTS}, kl_limit=1e9, **options)
    assert main(["ppo", str(free)]) == 0
    kls = [metrics["rollout/kl"] for metrics in metrics_of(free)]
    beyond = next(step for step, kl in enumerate(kls) if kl > 1)
    assert beyond > 0
    limited = make_run("ppo", name="limited", parents=parents, data={"prompts": PROMPTS}, kl_limit=1, **options)
    assert main(["ppo", str(limited)]) == 0
    assert [metrics["rollout/kl"] for metrics in metrics_of(limited)] == kls[: beyond + 1]
    before = load_file(limited / f"attempts/1/checkpoints/step-{beyond:06d}/before.safetensors")
    published = load_file(limited / "attempts/1/output/model.safetensors")
    assert all(torch.equal(tensor, published[name.removeprefix("network.")]) for name, tensor in before.items())


def test_the_critic_starts_as_the_reward_model(parents: dict[str, Path]) -> None:
    chat = Chat.load(parents["policy"])
    cfg = PPOConfig(seed=0, dtype="fp32", parents=dict.fromkeys(("policy", "reference", "reward")))
    answers = [Answer(question(n), text, stopped=True) for n in range(3) for text in ("A fox.", "Drink water.")]
    rewards = Scorer.load(parents["reward"], chat, cfg, touch=lambda: None).scores(answers)
    critic, _ = load_reward(parents["reward"], "fp32")
    batch = collate([chat.reward_ids(*answer) for answer in answers], chat.pad_id)
    # Behind the last token stands what the critic thinks once it has read it.
    extended = batch._replace(
        tokens=torch.nn.functional.pad(batch.tokens, (0, 1)), attention=torch.nn.functional.pad(batch.attention, (0, 1))
    )
    values = critic.values(extended.tokens, extended.attention)
    at_end = values.gather(1, batch.attention.sum(1, keepdim=True)).squeeze(1)
    torch.testing.assert_close(at_end, rewards, atol=1e-5, rtol=0)


def test_a_sample_of_a_step_can_be_read_token_by_token(
    make_run: MakeRun, parents: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("ppo", parents=parents, data={"prompts": PROMPTS}, learning_rate=1e-2, beta=0.5, **SMALL)
    assert main(["ppo", str(run)]) == 0
    capsys.readouterr()
    assert main(["inspect", str(run), "2"]) == 0
    title, prompt, heading, *rows, total = capsys.readouterr().out.splitlines()
    assert title.startswith("step 2, prompt ")
    assert "eggs" in prompt
    assert heading.split() == ["token", "log", "prob", "reference", "KL", "reward", "value", "advantage"]
    numbers = torch.tensor([[float(number) for number in row.split()[-6:]] for row in rows])
    logprobs, reference, kl, rewards, _, _ = numbers.T
    torch.testing.assert_close(kl, logprobs - reference, atol=2e-4, rtol=0)
    torch.testing.assert_close(rewards[:-1], -0.5 * kl[:-1], atol=2e-4, rtol=0)
    assert float(total.split()[3]) == pytest.approx(kl.sum().item(), abs=1e-3)
    assert main(["inspect", str(run), "9"]) == 77


def test_evaluation_compares_policy_and_reference_on_held_out_prompts(
    make_run: MakeRun, parents: dict[str, Path], models: dict[str, Path]
) -> None:
    held_out = [{"id": n, "messages": question(100 + n)} for n in range(4)]
    rankings = [{**ranked_slate(n, [1, 2, 2]), "messages": question(100 + n)} for n in range(4)]
    data = {"heldout_prompts": held_out, "heldout_rankings": rankings}
    run = make_run("evaluation", parents=parents, data=data, draws=3, max_response=10)
    assert main(["evaluation", str(run)]) == 0
    (metrics,) = metrics_of(run)
    assert metrics["heldout/kl"] == pytest.approx(0, abs=1e-6)
    assert metrics["heldout/reward_pairs"] == 8
    assert metrics["heldout/reward_ties"] == 4
    assert metrics["heldout/reward_accuracy"] == metrics["heldout/reward_accuracy_gap_1"]
    assert metrics["heldout/reward_accuracy"] == metrics["heldout/reward_accuracy_round_1"]
    assert 0 < metrics["proxy/win_rate"] < 1
    rows = read_completions(run / "attempts/1/output/completions.jsonl")
    by_policy = {
        role: [(row.prompt_id, row.index) for row in rows if row.policy == role] for role in ("policy", "reference")
    }
    assert by_policy["policy"] == by_policy["reference"] == [(str(p), n) for p in range(4) for n in range(3)]
    assert [row.text for row in rows if row.policy == "policy"] != [row.text for row in rows if row.policy != "policy"]


def test_the_first_round_is_evaluated_without_a_reward_model(make_run: MakeRun, models: dict[str, Path]) -> None:
    parents = {"policy": models["gpt2"], "reference": models["gpt2"]}
    run = make_run("evaluation", parents=parents, data={"heldout_prompts": PROMPTS}, draws=1, max_response=10)
    assert main(["evaluation", str(run)]) == 0
    (metrics,) = metrics_of(run)
    assert not any("reward" in name or "proxy" in name for name in metrics)
    assert all(row.reward is None for row in read_completions(run / "attempts/1/output/completions.jsonl"))


@pytest.mark.parametrize("stage", ["reward", "ppo", "evaluation"])
def test_a_held_out_prompt_among_what_trains_ends_in_77(
    make_run: MakeRun, models: dict[str, Path], capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    roles = ("policy",) if stage == "reward" else ("policy", "reference", "reward")
    shouted = [{"role": "user", "content": "HOW do  I boil 2 eggs?\n"}]
    data = {"prompts": PROMPTS, "heldout_prompts": [{"id": "x", "messages": shouted}]}
    run = make_run(stage, parents=dict.fromkeys(roles, models["llama"]), data=data)
    assert main([stage, str(run)]) == 77
    assert "held-out" in capsys.readouterr().err
