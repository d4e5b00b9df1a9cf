"""What a stage mends by itself, once: gradients that are not finite, memory that runs out, damaged checkpoints."""

import dataclasses
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from tests.rlhf.conftest import MakeRun
from tests.rlhf.forward_hooks import forward_hook, interrupted_at_forward
from tests.rlhf.reward_runs import question, ranked_slate
from tests.rlhf.run.test_resume import finished, metrics, weights
from training.rlhf import memory
from training.rlhf.__main__ import main
from training.rlhf.config import STAGES, AnsweringConfig, Parent
from training.rlhf.networks.scalar_model import ScalarModel
from training.rlhf.run import recovery
from training.rlhf.run.directory import RunDirectory
from training.rlhf.run.recovery_log import Recovery, RecoveryLog


@contextmanager
def faulty_forwards(*numbers: int) -> Iterator[None]:
    """A machine that computes nonsense in the forward passes of these numbers."""
    passes = 0

    def see(module: nn.Module, tokens: Tensor, result: Tensor) -> Tensor | None:
        nonlocal passes
        passes += 1
        return result * torch.nan if passes in numbers else None

    with forward_hook(see):
        yield


@contextmanager
def room_for(tokens_at_once: int) -> Iterator[None]:
    """A machine whose memory holds so many tokens at once."""

    def see(module: nn.Module, tokens: Tensor, result: Tensor) -> None:
        if tokens.numel() > tokens_at_once:
            raise torch.OutOfMemoryError("out of memory")

    with forward_hook(see):
        yield


def recoveries(run: Path, fence: int = 1) -> list[dict[str, Any]]:
    path = run / f"attempts/{fence}/setbacks.json"
    found: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    return found


def damage(checkpoint: Path) -> None:
    path = checkpoint / "policy.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_two_steps_that_are_not_finite_are_skipped_and_counted(make_sft: Callable[..., Path]) -> None:
    run = make_sft("run")
    with faulty_forwards(3, 4):
        assert main(["sft", str(run)]) == 0
    assert [row["metrics"].get("skipped_steps") for row in metrics(run)] == [None, 0, 0, 1, 2, 2, 2, 2, 2, 2]
    assert recoveries(run) == []


def test_the_last_step_is_kept_even_where_it_was_skipped(make_sft: Callable[..., Path]) -> None:
    run = make_sft("run")
    with faulty_forwards(9):
        assert main(["sft", str(run)]) == 0
    assert [path.name for path in run.glob("attempts/1/checkpoints/*")] == ["step-000009"]


def test_three_in_a_row_go_back_and_on_at_half_the_learning_rate(make_sft: Callable[..., Path]) -> None:
    run, slow = make_sft("run"), make_sft("slow", learning_rate=5e-4)
    with faulty_forwards(5, 6, 7):
        assert main(["sft", str(run)]) == 0
    assert main(["sft", str(slow)]) == 0
    assert weights(run) == weights(slow)  # no checkpoint was due yet, so it started over
    assert metrics(run) == metrics(slow)
    (entry,) = recoveries(run)
    assert (entry["kind"], entry["step"]) == ("not_finite", 6)
    assert entry["text"] == (
        "After step 6 the gradient of the policy was not finite 3 times in a row,"
        " so the stage went back to the beginning and continued at half the learning rate."
    )


def test_it_goes_back_to_the_last_checkpoint_and_no_further(make_sft: Callable[..., Path]) -> None:
    run = make_sft("run", checkpoint_seconds=0)
    with faulty_forwards(5, 6, 7):
        assert main(["sft", str(run)]) == 0
    (entry,) = recoveries(run)
    assert "went back to the checkpoint of step 4 and continued" in entry["text"]
    assert [row["step"] for row in metrics(run)] == list(range(10))
    assert metrics(run)[-1]["metrics"]["skipped_steps"] == 0


def test_a_second_time_ends_in_79_with_advice_even_after_a_kill(
    make_sft: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_sft("run")
    with pytest.raises(KeyboardInterrupt), faulty_forwards(2, 3, 4), interrupted_at_forward(6):
        main(["sft", str(run)])
    (run / "fence").write_text("2")
    assert len(recoveries(run)) == 1
    with faulty_forwards(2, 3, 4):
        assert main(["sft", str(run)]) == 79
    assert recoveries(run, fence=2) == recoveries(run)
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.endswith("even at half the learning rate: try again with a lower learning_rate (it was 0.0005)")


def test_a_learning_rate_that_destroys_the_weights_ends_in_79(
    make_sft: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_sft("run", learning_rate=1e38)
    assert main(["sft", str(run)]) == 79
    assert [one["kind"] for one in recoveries(run)] == ["not_finite"]
    assert "lower learning_rate (it was 5e+37)" in capsys.readouterr().err
    assert not (run / "attempts/1/output").exists()


def test_where_memory_runs_out_the_stage_goes_on_with_half_the_micro_batch(make_sft: Callable[..., Path]) -> None:
    run, small = make_sft("run", batch_tokens=60), make_sft("small", batch_tokens=30)
    with room_for(30):
        assert main(["sft", str(run)]) == 0
    assert main(["sft", str(small)]) == 0
    assert weights(run) == weights(small)
    (entry,) = recoveries(run)
    assert entry["kind"] == "out_of_memory"
    assert entry["text"].endswith("continued with half as many tokens per batch (batch_tokens 30).")


def test_where_half_is_too_much_as_well_the_stage_ends_in_77_and_names_the_field(
    make_sft: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_sft("run", batch_tokens=60)
    with room_for(8):
        assert main(["sft", str(run)]) == 77
    assert [one["kind"] for one in recoveries(run)] == ["out_of_memory"]
    assert "set batch_tokens below 30, or lower max_response" in capsys.readouterr().err


def test_a_real_allocation_that_fails_is_known_as_such() -> None:
    with pytest.raises(RuntimeError) as failure:
        torch.empty(1 << 60)
    assert memory.ran_out(failure.value)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError('NVML_SUCCESS == r INTERNAL ASSERT FAILED at "../c10/cuda/CUDACachingAllocator.cpp":830'),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
        MemoryError(),
    ],
    ids=str,
)
def test_every_way_to_say_that_memory_ran_out_is_understood(error: Exception) -> None:
    assert memory.ran_out(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("expected scalar type Float"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"),
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        ValueError("a demonstration about running out of memory"),
    ],
    ids=str,
)
def test_other_errors_do_not_sound_like_it(error: Exception) -> None:
    assert not memory.ran_out(error)


def test_memory_that_runs_out_while_a_model_is_loaded_is_not_blamed_on_the_model(
    make_sft: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")]
    load = AutoModelForCausalLM.from_pretrained

    def load_at_the_second_try(*arguments: Any, **options: Any) -> Any:
        if failures:
            raise failures.pop()
        return load(*arguments, **options)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", load_at_the_second_try)
    run = make_sft("run")
    assert main(["sft", str(run)]) == 0
    assert [one["kind"] for one in recoveries(run)] == ["out_of_memory"]


def test_a_stage_whose_attempt_before_was_killed_for_memory_begins_with_half_the_micro_batch(
    make_sft: Callable[..., Path],
) -> None:
    """The supervisor logs such a kill where the engine logs its own recoveries."""
    run, small = make_sft("run", batch_tokens=60), make_sft("small", batch_tokens=30)
    (run / "attempts/1").mkdir(parents=True)
    RecoveryLog(run / "attempts/1").add(Recovery("out_of_memory", 0, "The kernel killed the engine."))
    (run / "fence").write_text("2")
    for one in (run, small):
        assert main(["sft", str(one)]) == 0
    assert weights(run) == weights(small)
    assert recoveries(run, fence=2) == recoveries(run)


def test_other_errors_are_not_taken_for_a_lack_of_memory(make_sft: Callable[..., Path]) -> None:
    def see(module: nn.Module, tokens: Tensor, result: Tensor) -> None:
        raise RuntimeError("a fault of ours")

    with pytest.raises(RuntimeError, match="a fault of ours"), forward_hook(see):
        main(["sft", str(make_sft("run"))])


@pytest.mark.parametrize("stage", STAGES)
def test_the_recoveries_fit_every_stage(make_run: MakeRun, stage: str) -> None:
    parents = {role: Parent(path=role, manifest_sha256="0") for role in STAGES[stage].required_parents}
    cfg = STAGES[stage](seed=3, parents=parents)
    run = RunDirectory(make_run(stage))
    assert recovery.adapted_config(cfg, run.recovery_log) == cfg
    recovery.halve_micro_batch(run, cfg)
    if rates := recovery.learning_rates(cfg):
        recovery.halve_learning_rate(run, cfg, recovery.Diverged("it shook"))
    expected = {name: rate / 2 for name, rate in rates.items()} | {"batch_tokens": cfg.batch_tokens // 2}
    if isinstance(cfg, AnsweringConfig):
        expected |= {"cache_mb": cfg.cache_mb // 2}
    assert recovery.adapted_config(cfg, run.recovery_log) == dataclasses.replace(cfg, **expected)


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_used(make_sft: Callable[..., Path]) -> None:
    run, straight = make_sft("run", checkpoint_seconds=0), make_sft("straight")
    assert main(["sft", str(straight)]) == 0
    assert main(["sft", str(run)]) == 0
    shutil.rmtree(run / "attempts/1/output")
    checkpoints = run / "attempts/1/checkpoints"
    damage(checkpoints / "step-000009")
    (run / "fence").write_text("2")
    assert main(["sft", str(run)]) == 0
    assert weights(run) == weights(straight)
    (entry,) = recoveries(run, fence=2)
    assert (entry["kind"], entry["step"]) == ("damaged_checkpoint", 9)
    assert entry["text"] == (
        "The checkpoint of step 9 was damaged and was set aside; the stage resumed from the checkpoint of step 8."
    )
    assert [path.name for path in checkpoints.iterdir() if "9" in path.name] == ["step-000009.damaged"]


def test_where_all_checkpoints_are_damaged_the_stage_starts_over_and_says_so(make_sft: Callable[..., Path]) -> None:
    run, straight = make_sft("run", checkpoint_seconds=0), make_sft("straight")
    assert main(["sft", str(straight)]) == 0
    assert main(["sft", str(run)]) == 0
    shutil.rmtree(run / "attempts/1/output")
    damage(run / "attempts/1/checkpoints/step-000008")
    (run / "attempts/1/checkpoints/step-000009/manifest.json").write_text("[]")
    assert main(["sft", str(run)]) == 0
    assert weights(run) == weights(straight)
    assert metrics(run) == metrics(straight)
    assert [one["step"] for one in recoveries(run)] == [9, 8]
    assert all("started over, as there was no complete checkpoint" in one["text"] for one in recoveries(run))


def test_ppo_goes_back_when_its_critic_is_beside_itself(make_run: MakeRun, models: dict[str, Path]) -> None:
    ranked = {"rankings": [ranked_slate(0)]}
    reward = make_run("reward", name="reward", parents={"policy": models["llama"]}, data=ranked, max_response=32)
    assert main(["reward", str(reward)]) == 0
    parents = {"policy": models["llama"], "reference": models["llama"], "reward": finished(reward) / "output"}
    options = {"iterations": 3, "rollout_size": 6, "minibatch_size": 2, "max_response": 8, "checkpoint_seconds": 0}
    prompts = [{"id": n, "messages": question(n)} for n in range(3)]
    run = make_run("ppo", parents=parents, data={"prompts": prompts}, **options)
    learnt = 0

    def see(module: nn.Module, tokens: Tensor, result: Tensor) -> Tensor | None:
        nonlocal learnt
        learns = isinstance(module, ScalarModel) and torch.is_grad_enabled()
        learnt += learns
        # The critic takes three steps in an iteration: these are those of the second one.
        return result * torch.nan if learns and learnt in (4, 5, 6) else None

    with forward_hook(see):
        assert main(["ppo", str(run)]) == 0
    (entry,) = recoveries(run)
    assert entry["text"].startswith("After step 1 the gradient of the critic was not finite 3 times in a row")
    assert "went back to the checkpoint of step 1" in entry["text"]
    assert [row["step"] for row in metrics(run)] == [0, 1, 2, 3]
