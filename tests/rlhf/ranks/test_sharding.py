"""Processes that each hold a part of every network learn what one does, and leave checkpoints for any number."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tests.rlhf import architectures
from tests.rlhf.conftest import MakeRun
from tests.rlhf.ranks.conftest import MakeSft
from tests.rlhf.ranks.launches import engine, join, launch, start
from tests.rlhf.ranks.test_ends import arm
from tests.rlhf.ranks.test_equality import SHORT, check_that_two_equal_one, weights_of
from tests.rlhf.reward_runs import demonstration, question, ranked_slate
from tests.rlhf.run.test_resume import finished, hand_over, metrics, weights
from training.rlhf import endings
from training.rlhf.run import checkpoint, rank_notes


def hold(folder: Path, model: Path) -> int:
    """Shard a policy, let it learn and sample, and write down what this rank saw."""
    from training.rlhf import ranks, sharding
    from training.rlhf.data.batching import collate
    from training.rlhf.data.chat import Chat, Rendered
    from training.rlhf.networks.policy import load_policy, token_logprobs
    from training.rlhf.run.checkpoint import module_tensors, optimizer_tensors
    from training.rlhf.stages.learner import Learner

    ranks.join(2, lambda rank, collectives: None)
    chat = Chat.load(model)
    seen: dict[str, Any] = {}
    for dtype in ("fp32", "bf16"):
        policy = load_policy(model, chat, dtype)
        first = {name: tensor.clone() for name, tensor in module_tensors(policy).items()}
        names = sorted(policy.network.state_dict())
        policy.shard()
        learner = Learner(policy, "policy")
        # The second rank has nothing to read.
        batch = collate([Rendered([5, 6], [7, 8, 9])] if ranks.is_first() else [], chat.pad_id)
        token_logprobs(policy, batch).sum().backward()
        learner.step(0.1)
        whole = {name: sharding.whole(tensor) for name, tensor in module_tensors(policy).items()}
        sampler = policy.for_sampling()
        (token_logprobs(policy, batch).sum() * (torch.nan if ranks.is_first() else 1)).backward()
        learner.step(0.1)
        moments = [tensor for tensor in optimizer_tensors(learner.optimizer).values() if tensor.ndim]
        state = sharding.gathered_state(policy.network) or {}
        seen[dtype] = {
            "held": sum(sharding.own_part(tensor).numel() for tensor in policy.parameters()),
            "moments": sum(sharding.own_part(tensor).numel() for tensor in moments),
            "sampler": all(
                torch.equal(theirs, whole[name].to(theirs.dtype)) for name, theirs in module_tensors(sampler).items()
            ),
            "sampler_dtype": str(next(sampler.parameters()).dtype),
            "moved": max((whole[name] - tensor).abs().max().item() for name, tensor in first.items()),
            "skipped": learner.skipped_steps,
            "gathered": sorted(state) == names if ranks.is_first() else len(state),
        }
    seen["frozen"] = reads_the_same(load_policy(model, chat, "bf16", trains=False))
    seen["all"] = sum(tensor.numel() for tensor in first.values())
    (folder / f"{ranks.own()}.json").write_text(json.dumps(seen))
    ranks.leave()
    return 0


def reads_the_same(frozen: Any) -> bool:
    """Whether a frozen policy, which has weights of two dtypes, gives the same numbers once it is sharded."""
    from training.rlhf.data.batching import collate
    from training.rlhf.data.chat import Rendered
    from training.rlhf.networks.policy import token_logprobs

    batch = collate([Rendered([5, 6], [7, 8, 9])], 0)
    with torch.no_grad():
        expected = token_logprobs(frozen, batch)
        frozen.shard()
        return torch.equal(token_logprobs(frozen, batch), expected)


@pytest.mark.parametrize("family", ["llama", "qwen2"])  # with a head of its own, and one tied to the embedding
def test_each_rank_holds_half_and_samples_from_all(models: dict[str, Path], family: str, tmp_path: Path) -> None:
    assert join(start(hold, tmp_path, models[family], processes=2, log=tmp_path / "log")) == [0, 0]
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    for dtype in ("fp32", "bf16"):
        first, second = ranks[0][dtype], ranks[1][dtype]
        assert first["held"] == second["held"] == ranks[0]["all"] // 2
        assert first["moments"] == second["moments"] == ranks[0]["all"]
        assert first["sampler"] and second["sampler"] and first["moved"] > 0.01
        assert first["sampler_dtype"] == {"fp32": "torch.float32", "bf16": "torch.bfloat16"}[dtype]
        assert first["skipped"] == second["skipped"] == 1  # the gradient of one was not finite
        assert first["gathered"] is True and second["gathered"] == 0
    assert ranks[0]["frozen"] and ranks[1]["frozen"]


def compare(folder: Path, directories: list[Path]) -> int:
    """Write down how far the gradient of each policy is from that of a whole one."""
    from training.rlhf import ranks, sharding
    from training.rlhf.data.batching import collate
    from training.rlhf.data.chat import Chat, Rendered
    from training.rlhf.networks.policy import load_policy, token_logprobs

    ranks.join(2, lambda rank, collectives: None)
    parts = [[Rendered([5, 6, 9], [7, 8, 9, 11])], [Rendered([5], [7, 8]), Rendered([15, 3], [7, 8, 1])], []]
    gaps = {}
    for directory in directories:
        chat = Chat.load(directory)
        expected, policy = load_policy(directory, chat, "fp32"), load_policy(directory, chat, "fp32")
        sharding.shard(policy)
        for network, read in ((expected, [0, 1, 0]), (policy, [[0, 1], [2, 0]][ranks.own()])):
            for number in read:
                token_logprobs(network, collate(parts[number], chat.pad_id)).sum().backward()
        gaps[directory.name] = max(
            (sharding.whole(ours.grad) - theirs.grad).abs().max().item()  # type: ignore[arg-type, operator]
            for ours, theirs in zip(policy.parameters(), expected.parameters(), strict=True)
        )
    (folder / f"{ranks.own()}.json").write_text(json.dumps(gaps))
    ranks.leave()
    return 0


def test_architectures_of_other_kinds_get_the_gradient_of_whole_ones(tmp_path: Path) -> None:
    """Of three passes one rank makes two; the other one makes the third, and one with nothing to read."""
    kinds = ("experts", "alibi", "a hybrid of linear attention")
    directories = [architectures.build(*architectures.ADOPTED[kind], tmp_path / kind) for kind in kinds]
    assert join(start(compare, tmp_path, directories, processes=2, log=tmp_path / "log")) == [0, 0]
    gaps = json.loads((tmp_path / "0.json").read_text())
    assert gaps.keys() == set(kinds)
    assert max(gaps.values()) < 1e-5


def check_that_parts_were_gathered(run: Path) -> None:
    """Whole networks need at most 93 collectives in any of these runs; each pass through parts needs more."""
    notes = rank_notes.read(run / "attempts/1")
    assert len(notes) == 2
    assert notes[0].collectives > 100


@pytest.mark.parametrize(("family", "recomputes"), [("llama", "off"), ("qwen2", "on")])
def test_sft(make_run: MakeRun, models: dict[str, Path], family: str, recomputes: str) -> None:
    """In the last step of an epoch, one of the processes has nothing to read."""
    rows = {"demonstrations": [demonstration(n) for n in range(7)]}
    options = {"epochs": 2, "batch_size": 2, "learning_rate": 1e-3, "activation_checkpointing": recomputes} | SHORT
    parents = {"base": models[family]}
    _one, two = check_that_two_equal_one(make_run, "sft", 8, parents=parents, data=rows, sharding="on", **options)
    check_that_parts_were_gathered(two)


def test_a_reward_model(make_run: MakeRun, models: dict[str, Path]) -> None:
    """One demonstration: one of the processes has none to score."""
    data = {"rankings": [ranked_slate(n) for n in range(7)], "demonstrations": [demonstration(0)]}
    options = {
        "epochs": 2,
        "batch_size": 3,
        "learning_rate": 1e-3,
        "mismatch_coefficient": 0.5,
        "sharding": "on",
    } | SHORT
    parents = {"policy": models["qwen2"]}
    _one, two = check_that_two_equal_one(make_run, "reward", 6, parents=parents, data=data, **options)
    check_that_parts_were_gathered(two)


@pytest.fixture
def ppo(models: dict[str, Path], reward_models: dict[str, Path], watcher: Path) -> dict[str, Any]:
    """What a PPO of three iterations is made of, of which the policy that the watcher likes best is published."""
    policy = models["llama"]
    parents = {"policy": policy, "reference": policy, "reward": reward_models["llama"], "watcher": watcher}
    data = {"prompts": [{"id": n, "messages": question(n)} for n in range(5)]}
    data["demonstrations"] = [demonstration(n) for n in range(3)]
    sizes = {"iterations": 3, "rollout_size": 10, "minibatch_size": 5, "max_response": 8, "batch_tokens": 150}
    rates = {"learning_rate": 1e-3, "value_learning_rate": 1e-3}
    watched = {"gauge_every": 2, "gauge_prompts": 9, "trial_answers": 0}
    options = {"epochs": 2, "ptx_coefficient": 0.5, "ema_decay": 0.5, "kl_target": 0.01, "kl_horizon": 10}
    return {"parents": parents, "data": data, "sharding": "on", **sizes, **rates, **watched, **options}


def test_ppo(make_run: MakeRun, ppo: dict[str, Any]) -> None:
    one, two = check_that_two_equal_one(make_run, "ppo", 3, **ppo)
    check_that_parts_were_gathered(two)
    names = sorted(path.name for path in (one / "attempts/1/samples").iterdir())
    assert len(names) == 3
    for name in names:
        texts = [
            [(row["text"], row["reference_text"]) for row in map(json.loads, path.read_text().splitlines())]
            for path in (run / "attempts/1/samples" / name for run in (one, two))
        ]
        assert texts[0] == texts[1]


@pytest.mark.slow
def test_a_ppo_whose_process_was_killed_resumes_to_the_same_bytes(
    make_run: MakeRun, ppo: dict[str, Any], tmp_path: Path
) -> None:
    straight, killed = (
        # The last policy is published, or equal weights might be those that it started from.
        make_run("ppo", name=name, processes=2, checkpoint_seconds=0, **ppo | {"early_stopping": "off"})
        for name in ("straight", "killed")
    )
    assert launch(straight, "ppo", 2) == [0, 0]
    codes = launch(killed, "ppo", 2, **arm(tmp_path / "armed", "kill after step 2"))
    assert sorted(codes, key=str) == [-signal.SIGKILL, 1]
    assert endings.read(killed / "attempts/1") == {}  # the survivor does not know why
    hand_over(killed)
    assert launch(killed, "ppo", 2) == [0, 0]
    assert finished(killed).name == "2"
    assert weights(killed) == weights(straight)
    assert metrics(killed) == metrics(straight)


def test_a_ppo_beyond_its_limit_goes_back_to_the_weights_before(make_run: MakeRun, ppo: dict[str, Any]) -> None:
    """The first update goes too far, so the result is what it started from."""
    run = make_run("ppo", processes=2, **{**ppo, "iterations": 1, "learning_rate": 0.1, "kl_limit": 0.1})
    assert launch(run, "ppo", 2) == [0, 0]
    assert metrics(run)[-1]["metrics"]["rollout/final_kl"] > 0.1
    policy = safetensors.torch.load_file(ppo["parents"]["policy"] / "model.safetensors")
    before = torch.cat([tensor.flatten() for _name, tensor in sorted(policy.items())])
    assert torch.equal(weights_of(run / "attempts/1"), before)


@pytest.mark.parametrize(("processes", "sharding"), [(1, "on"), (2, "off"), (4, "on")])
def test_a_checkpoint_is_gone_on_from_by_any_number_of_processes(
    make_sft: MakeSft, tmp_path: Path, processes: int, sharding: str
) -> None:
    straight, run = make_sft("straight", processes=1), make_sft("run", sharding="on")
    assert launch(straight, "sft", 1) == [0]
    launch(run, "sft", 2, **arm(tmp_path / "armed", "kill after step 4"))
    hand_over(run)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "processes": processes, "sharding": sharding}))
    assert launch(run, "sft", processes) == [0] * processes
    assert finished(run).name == "2"
    torch.testing.assert_close(weights_of(finished(run)), weights_of(finished(straight)), atol=1e-5, rtol=0)


def test_a_checkpoint_of_whole_networks_is_gone_on_from_with_sharded_ones(make_sft: MakeSft, tmp_path: Path) -> None:
    straight, run = make_sft("straight", processes=1), make_sft("run", processes=1)
    assert launch(straight, "sft", 1) == [0]
    launch(run, "sft", 1, **arm(tmp_path / "armed", "kill after step 4"))
    hand_over(run)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "processes": 2, "sharding": "on"}))
    assert launch(run, "sft", 2) == [0, 0]
    torch.testing.assert_close(weights_of(finished(run)), weights_of(finished(straight)), atol=1e-5, rtol=0)


def test_a_request_to_stop_that_reaches_one_process_saves_the_parts_of_all(make_sft: MakeSft) -> None:
    run = make_sft(epochs=300, sharding="on", checkpoint_seconds=3600)
    processes = start(engine, run, "sft", processes=2, log=run / "log")
    metrics = run / "attempts/1/metrics.jsonl"
    while not (metrics.exists() and len(metrics.read_text().splitlines()) > 3):
        assert all(process.is_alive() for process in processes)
        time.sleep(0.01)
    assert processes[1].pid
    os.kill(processes[1].pid, signal.SIGTERM)
    assert 75 in join(processes)
    assert endings.read(run / "attempts/1")["kind"] == "interrupted"
    found = checkpoint.newest([run / "attempts/1/checkpoints"]).newest
    assert found and found.step == json.loads(metrics.read_text().splitlines()[-1])["step"]


def test_a_ppo_that_is_asked_to_stop_ends_with_a_checkpoint_to_go_on_from(
    make_run: MakeRun, ppo: dict[str, Any]
) -> None:
    """Wherever it was: while a rank samples, its parts cannot be saved, and the last checkpoint is kept."""
    run = make_run("ppo", processes=2, checkpoint_seconds=0, **{**ppo, "iterations": 300})
    processes = start(engine, run, "ppo", processes=2, log=run / "log")
    while not list(run.glob("attempts/1/checkpoints/step-*2")):
        assert all(process.is_alive() for process in processes)
        time.sleep(0.01)
    for process in processes:
        process.terminate()
    assert 75 in join(processes)
    assert endings.read(run / "attempts/1")["kind"] == "interrupted"
    found = checkpoint.newest([run / "attempts/1/checkpoints"]).newest
    assert found and found.step >= 2
