"""Reward, PPO and evaluation as stages: from run directory to run directory, by the command line."""

import json
import os
import shutil
import signal
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from annotate.services.text import folded_hash
from tests.rlhf import reward_runs
from tests.rlhf.conftest import MakeRun
from tests.rlhf.forward_hooks import forward_hook, interrupted_at_forward
from tests.rlhf.reward_runs import question, ranked_slate
from tests.rlhf.run.test_resume import metrics, samples, weights
from training.rlhf import endings, failpoints
from training.rlhf.__main__ import main
from training.rlhf.config import PPOConfig
from training.rlhf.data import leakage
from training.rlhf.data.batching import collate
from training.rlhf.data.chat import Chat
from training.rlhf.data.records import read_completions
from training.rlhf.networks.scalar_model import ScalarModel, load_reward
from training.rlhf.stages.scoring import Answer

SMALL = {"iterations": 3, "rollout_size": 8, "minibatch_size": 4, "max_response": 10, "checkpoint_seconds": 0}
PROMPTS = [{"id": n, "messages": question(n)} for n in range(5)]


@pytest.fixture
def parents(models: dict[str, Path], reward_models: dict[str, Path]) -> dict[str, Path]:
    return {"policy": models["llama"], "reference": models["llama"], "reward": reward_models["llama"]}


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


def test_a_stage_that_stopped_beyond_the_limit_comes_back_for_nothing_but_its_output(
    make_run: MakeRun, parents: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**SMALL, "checkpoint_seconds": 300, "learning_rate": 0.05, "iterations": 6, "kl_limit": 1}
    straight, held = (
        make_run("ppo", name=name, parents=parents, data={"prompts": PROMPTS}, **options) for name in ("a", "b")
    )
    assert main(["ppo", str(straight)]) == 0
    (tmp_path / "sealed-begins.1").write_text("disk_full attempts/1/output")  # once the stage has stopped
    monkeypatch.setenv(failpoints.VARIABLE, str(tmp_path))
    assert main(["ppo", str(held)]) == 78
    (held / "fence").write_text("2")
    used = set()
    with forward_hook(lambda network, *_: used.add(type(network))):
        assert main(["ppo", str(held)]) == 0
    assert used == {ScalarModel}  # the reward model replays its canaries; the policy neither writes nor learns
    assert (weights(held), metrics(held), samples(held)) == (weights(straight), metrics(straight), samples(straight))
    assert metrics(held)[-1]["step"] < 6


LAST_STEP = {**SMALL, "iterations": 1, "learning_rate": 0.05}


def published(run: Path) -> dict[str, Tensor]:
    return load_file(run / "attempts/1/output/model.safetensors")


def test_the_last_update_is_measured_too_and_taken_back_where_it_went_too_far(
    make_run: MakeRun, parents: dict[str, Path]
) -> None:
    data = {"prompts": PROMPTS}
    near = make_run("ppo", name="near", parents=parents, data=data, kl_limit=1e9, **LAST_STEP)
    far = make_run("ppo", name="far", parents=parents, data=data, kl_limit=0.2, **LAST_STEP)
    for run in (near, far):
        assert main(["ppo", str(run)]) == 0
        assert [(line["step"], line["total"]) for line in lines_of(run)] == [(0, 1), (1, 1)]
    (metrics,) = metrics_of(far)
    assert metrics["rollout/kl"] == 0
    assert metrics["rollout/final_kl"] == metrics_of(near)[0]["rollout/final_kl"] > 0.2
    start = load_file(parents["policy"] / "model.safetensors")
    assert all(torch.equal(tensor, start[name]) for name, tensor in published(far).items())
    assert not all(torch.equal(tensor, start[name]) for name, tensor in published(near).items())


def test_a_last_update_that_breaks_the_policy_ends_in_79_with_advice(
    make_run: MakeRun, parents: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("ppo", parents=parents, data={"prompts": PROMPTS}, **{**LAST_STEP, "learning_rate": 1e38})
    assert main(["ppo", str(run)]) == 79
    sentence = capsys.readouterr().err.splitlines()[-1]
    assert "the policy's logits are not finite" in sentence
    assert "even at half the learning rate" in sentence
    assert not (run / "attempts/1/output").exists()


def test_a_measurement_that_is_interrupted_is_made_again(make_run: MakeRun, parents: dict[str, Path]) -> None:
    straight, killed = (
        make_run("ppo", name=name, parents=parents, data={"prompts": PROMPTS}, kl_limit=0.2, **LAST_STEP)
        for name in ("straight", "killed")
    )
    seen = []
    with forward_hook(lambda *_: seen.append(1)):
        assert main(["ppo", str(straight)]) == 0
    with pytest.raises(KeyboardInterrupt), interrupted_at_forward(len(seen)):
        main(["ppo", str(killed)])
    assert not (killed / "attempts/1/output").exists()
    assert main(["ppo", str(killed)]) == 0
    assert metrics_of(killed) == metrics_of(straight)
    assert (killed / "attempts/1/output/model.safetensors").read_bytes() == (
        straight / "attempts/1/output/model.safetensors"
    ).read_bytes()


def test_who_is_asked_to_stop_while_answers_are_drawn_keeps_every_finished_iteration(
    make_run: MakeRun, parents: dict[str, Path]
) -> None:
    sizes = {**SMALL, "checkpoint_seconds": 300, "learning_rate": 1e-3}
    straight, stopped = (
        make_run("ppo", name=name, parents=parents, data={"prompts": PROMPTS}, **sizes) for name in ("a", "b")
    )
    assert main(["ppo", str(straight)]) == 0
    asked = []

    def ask_to_stop(*_: Any) -> None:
        if not asked and (stopped / "attempts/1/metrics.jsonl").exists() and len(lines_of(stopped)) == 3:
            asked.append(os.kill(os.getpid(), signal.SIGTERM))

    with forward_hook(ask_to_stop):
        assert main(["ppo", str(stopped)]) == 75
    assert [path.name for path in stopped.glob("attempts/1/checkpoints/*")] == ["step-000002"]
    assert main(["ppo", str(stopped)]) == 0
    assert metrics_of(stopped) == metrics_of(straight)
    assert published(stopped).keys() == published(straight).keys()
    assert all(torch.equal(tensor, published(straight)[name]) for name, tensor in published(stopped).items())


def test_the_critic_starts_as_the_reward_model(model_dir: Path, reward_models: dict[str, Path]) -> None:
    chat, reward_model = Chat.load(model_dir), reward_models[model_dir.name]
    cfg = PPOConfig(seed=0, dtype="fp32", parents=dict.fromkeys(("policy", "reference", "reward")))
    answers = [Answer(question(n), text, stopped=True) for n in range(3) for text in ("A fox.", "Drink water.")]
    rewards = reward_runs.scorer(reward_model, chat, cfg).scores(answers)
    critic, _ = load_reward(reward_model, "fp32")
    batch = collate([chat.rendered(*answer[:3]) for answer in answers], chat.pad_id)
    # Behind the last token stands what the critic thinks once it has read it.
    extended = batch._replace(
        tokens=torch.nn.functional.pad(batch.tokens, (0, 1)), attention=torch.nn.functional.pad(batch.attention, (0, 1))
    )
    values = critic.values(extended)
    at_end = values.gather(1, batch.attention.sum(1, keepdim=True)).squeeze(1)
    torch.testing.assert_close(at_end, rewards, atol=1e-5, rtol=0)


def test_a_disk_that_is_full_for_the_samples_of_a_step_calls_for_a_person_and_leaves_no_torn_file(
    make_run: MakeRun, parents: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file = safetensors.torch.save_file

    def save_half(tensors: Any, path: Path, **options: Any) -> None:
        save_file(tensors, path, **options)
        if path.parent.name == "rollouts":
            path.write_bytes(path.read_bytes()[:100])
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.torch, "save_file", save_half)
    run = make_run("ppo", parents=parents, data={"prompts": PROMPTS}, learning_rate=1e-3, **SMALL)
    assert main(["ppo", str(run)]) == 78
    assert endings.read(run / "attempts/1")["kind"] == "disk"
    assert not list((run / "attempts/1/rollouts").iterdir())
    monkeypatch.undo()
    assert main(["ppo", str(run)]) == 0
    assert len(list((run / "attempts/1/rollouts").iterdir())) == SMALL["iterations"]


def test_a_sample_of_a_step_can_be_read_token_by_token(
    make_run: MakeRun, parents: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("ppo", parents=parents, data={"prompts": PROMPTS}, learning_rate=1e-2, beta=0.5, **SMALL)
    assert main(["ppo", str(run)]) == 0
    capsys.readouterr()
    assert main(["inspect", str(run), "2"]) == 0
    samples = capsys.readouterr().out.strip().split("\n\n")
    assert len(samples) == 4
    for sample in samples:
        title, prompt, heading, *rows, total = sample.splitlines()
        assert title.startswith("step 2, prompt ")
        assert "eggs" in prompt
        assert heading.split() == [
            *("token", "log", "p", "reference", "KL", "reward", "value", "advantage", "return", "whitened"),
            *("new", "log", "p", "new", "value"),
        ]
        numbers = torch.tensor([[float(number) for number in row.split()[-10:]] for row in rows])
        logprobs, reference, kl, rewards, values, advantages, returns, _, new_logprobs, new_values = numbers.T
        torch.testing.assert_close(kl, logprobs - reference, atol=2e-4, rtol=0)
        torch.testing.assert_close(rewards[:-1], -0.5 * kl[:-1], atol=2e-4, rtol=0)
        torch.testing.assert_close(returns, advantages + values, atol=2e-4, rtol=0)
        assert (new_logprobs != logprobs).any() and (new_values != values).any()
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
    kls = [row.kl for row in rows if row.policy == "policy"]
    assert sum(kls) / len(kls) == pytest.approx(metrics["heldout/kl"], abs=1e-9)
    assert {row.kl for row in rows if row.policy == "reference"} == {None}
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


@pytest.mark.parametrize("text", ["HOW do  I boil\n2 eggs?", "cafe\u0301 STRASSE", "\u0390 \u1fb7", "Ω\u0345"])
def test_the_engine_and_the_import_agree_on_which_prompts_are_almost_the_same(text: str) -> None:
    """Each compares by itself, since the engine imports nothing of the pages."""
    for other in (text.upper(), text.casefold(), unicodedata.normalize("NFD", text), f"{text} indeed"):
        one, two = ([{"role": "user", "content": said}] for said in (text, other))
        assert (leakage._folded(one) == leakage._folded(two)) == (folded_hash(one) == folded_hash(two))


@pytest.mark.parametrize("stage", ["reward", "ppo", "evaluation"])
def test_a_held_out_prompt_among_what_trains_ends_in_77(
    make_run: MakeRun, model_dir: Path, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    roles = ("policy",) if stage == "reward" else ("policy", "reference", "reward")
    shouted = [{"role": "user", "content": "HOW do  I boil 2 eggs?\n"}]
    data = {"prompts": PROMPTS, "heldout_prompts": [{"id": "x", "messages": shouted}]}
    run = make_run(stage, parents=dict.fromkeys(roles, model_dir), data=data)
    assert main([stage, str(run)]) == 77
    assert "held-out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stage", "role", "named"),
    [
        ("ppo", "reference", "parents.reference"),
        ("ppo", "reward", "the reward model"),
        ("evaluation", "reference", "parents.reference"),
        ("evaluation", "reward", "the reward model"),
        ("sampling", "parent", "parents.parent"),
        ("sampling", "reward", "the reward model"),
    ],
)
def test_parents_that_write_conversations_differently_end_in_77(
    make_run: MakeRun,
    parents: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    stage: str,
    role: str,
    named: str,
) -> None:
    """Only the template is another one, so that each of them alone does its work as ever."""
    other = shutil.copytree(parents["reward" if role == "reward" else "policy"], tmp_path / "other")
    template = (other / "chat_template.jinja").read_text()
    (other / "chat_template.jinja").write_text(template.replace("{{ m['content'] }}", " {{ m['content'] }}"))
    own = parents if stage != "sampling" else {"policy": parents["policy"]}
    data = {"prompts": PROMPTS[:2], "heldout_prompts": [], "heldout_rankings": []}
    if stage == "evaluation":
        data = {"heldout_prompts": PROMPTS[:2], "heldout_rankings": []}
    sizes = SMALL if stage == "ppo" else {"max_response": 4}
    run = make_run(stage, parents={**own, role: other}, data=data, **sizes)
    assert main([stage, str(run)]) == 77
    sentence = capsys.readouterr().err.splitlines()[-1]
    assert named in sentence and "tokenize conversations differently" in sentence
    assert not (run / "attempts/1/output").exists()
