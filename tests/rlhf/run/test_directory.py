"""Directories that are whole or not there, and a run that only its owner may write to."""

import errno
import json
import os
import resource
import signal
from pathlib import Path

import pytest
import torch

from tests.rlhf.conftest import MakeRun
from training.rlhf import failpoints
from training.rlhf.__main__ import main
from training.rlhf.exits import Diverged, FenceLost, Interrupted
from training.rlhf.run import checkpoint
from training.rlhf.run.directory import RunDirectory
from training.rlhf.run.manifest import ignore_bytes, manifest_sha256, sealed, verifies
from training.rlhf.stages.learner import Learner

DEMONSTRATIONS = [
    {"id": str(n), "messages": [{"role": "user", "content": f"Why {n}?"}], "response": "So."} for n in range(4)
]


def nothing() -> None:
    """Nobody else wants to write here."""


def save(directory: Path, step: int) -> None:
    tensors = {"policy": {"w": torch.full((2,), float(step))}}
    checkpoint.save(directory, step, tensors, {"cursor": step}, nothing, ignore_bytes)


def test_a_sealed_directory_verifies_until_a_byte_changes(tmp_path: Path) -> None:
    with sealed(tmp_path / "output", nothing) as draft:
        (draft / "a.txt").write_text("a")
        assert not (tmp_path / "output").exists()
    assert verifies(tmp_path / "output")
    before = manifest_sha256(tmp_path / "output")
    assert json.loads((tmp_path / "output/manifest.json").read_text())["sha256"] == before
    (tmp_path / "output/a.txt").write_text("b")
    assert not verifies(tmp_path / "output")
    assert manifest_sha256(tmp_path / "output") != before


def test_the_newest_checkpoint_that_verifies_is_taken_from_any_attempt(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    for directory, step in ((first, 1), (first, 3), (second, 2), (second, 4)):
        save(directory, step)
    found = checkpoint.newest([first, second]).newest
    assert found is not None
    assert (found.step, found.state(), found.tensors("policy")["w"].tolist()) == (4, {"cursor": 4}, [4.0, 4.0])
    (second / "step-000004/state.json").write_text("{}")
    (first / "step-000003/manifest.json").unlink()
    found, damaged = checkpoint.newest([first, second])
    assert found is not None and found.step == 2
    assert damaged == [second / "step-000004", first / "step-000003"]
    assert checkpoint.newest([tmp_path / "3"]) == (None, [])


def test_two_checkpoints_are_kept_of_all_attempts_together(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    for directory, step in ((first, 8), (first, 9), (second, 10)):
        save(directory, step)
    checkpoint.prune([first, second])
    assert [path.name for path in first.iterdir()] == ["step-000009"]
    assert [path.name for path in second.iterdir()] == ["step-000010"]


def test_an_optimizer_goes_on_as_if_it_had_never_been_saved(tmp_path: Path) -> None:
    def learn(learner: Learner, steps: int) -> None:
        for _ in range(steps):
            learner.network(torch.arange(3.0)).square().sum().backward()
            learner.step(0.1)

    torch.manual_seed(0)
    network = torch.nn.Linear(3, 2)
    straight = Learner(network, "net")
    learn(straight, 2)
    checkpoint.save(tmp_path, 2, straight.tensors(), straight.state(), nothing, ignore_bytes)
    learn(straight, 2)
    resumed = Learner(torch.nn.Linear(3, 2), "net")
    saved = checkpoint.newest([tmp_path]).newest
    assert saved is not None
    resumed.restore(saved)
    learn(resumed, 2)
    assert torch.equal(resumed.network.weight, network.weight)


def test_whoever_lost_the_fence_may_not_publish(make_run: MakeRun) -> None:
    path = make_run("pretraining")
    (path / "fence").write_text("4\n")
    run = RunDirectory(path)
    assert run.attempt == path / "attempts/4"
    (path / "fence").write_text("5\n")
    with pytest.raises(FenceLost), run.output() as draft:
        (draft / "late.txt").write_text("late")
    assert not (run.attempt / "output").exists()


def test_resuming_cuts_the_metrics_to_the_checkpoint_and_drops_a_torn_line(make_run: MakeRun) -> None:
    path = make_run("pretraining")
    (path / "fence").write_text("1")
    first = RunDirectory(path)
    for step in (1, 2, 3):
        first.log(step, 9, {"sft/loss": step / 2})
        if step == 2:
            save(first.attempt / "checkpoints", step)
    with (first.attempt / "metrics.jsonl").open("a") as out:
        out.write('{"step": 4, "to')
    for fence in ("1", "2"):
        (path / "fence").write_text(fence)
        run = RunDirectory(path)
        found = run.resume()
        assert found is not None and found.step == 2
        rows = [json.loads(line) for line in (run.attempt / "metrics.jsonl").read_text().splitlines()]
        assert [(row["step"], row["total"], row["metrics"]) for row in rows] == [
            (1, 9, {"sft/loss": 0.5}),
            (2, 9, {"sft/loss": 1.0}),
        ]


def test_being_asked_to_stop_saves_first(make_run: MakeRun) -> None:
    run = RunDirectory(make_run("pretraining"))
    run.stop_on_sigterm()
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted) as end:
        run.save_if_due(1, 9, 300, lambda: ({"policy": {"w": torch.ones(1)}}, {}))
    assert end.value.code == 75
    assert verifies(run.attempt / "checkpoints/step-000001")


def test_a_stage_that_is_done_is_not_done_again(make_run: MakeRun, models: dict[str, Path]) -> None:
    path = make_run("sft", parents={"base": models["gpt2"]}, data={"demonstrations": DEMONSTRATIONS}, max_response=16)
    assert main(["sft", str(path)]) == 0
    assert (path / "alive").exists()
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
    assert main(["sft", str(path)]) == 0
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == before


def test_a_full_disk_calls_for_a_person(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(failpoints.VARIABLE, str(tmp_path))
    (tmp_path / "sealed-filled.1").write_text("disk_full output")
    path = make_run("pretraining", data={"corpus": [{"text": "So it goes."}] * 8}, tokens=40)
    assert main(["pretraining", str(path)]) == 78
    assert os.strerror(errno.ENOSPC) in capsys.readouterr().err


def test_a_disk_that_is_full_for_safetensors_is_the_same_error_as_for_everybody(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError) as refusal:
            checkpoint.save(tmp_path, 1, {"policy": {"w": torch.ones(4096)}}, {}, nothing, ignore_bytes)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert refusal.value.errno == errno.EFBIG
    assert not (tmp_path / "step-000001").exists()


def test_a_metric_that_is_no_number_ends_the_stage(make_run: MakeRun, models: dict[str, Path]) -> None:
    run = RunDirectory(make_run("sft", parents={"base": models["llama"]}))
    with pytest.raises(Diverged, match="sft/loss is not finite") as end:
        run.log(1, 2, {"skipped_steps": 1, "sft/loss": float("nan")})
    assert (end.value.kind, end.value.field) == ("metric_not_finite", "sft/loss")
    assert not (run.attempt / "metrics.jsonl").exists()
