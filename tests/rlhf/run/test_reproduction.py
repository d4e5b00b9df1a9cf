"""A run that is run again has the same bytes; where it has not, the command says what differs and what explains it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.rlhf.forward_hooks import forward_hook
from tests.rlhf.reward_runs import demonstration
from tests.rlhf.run.conftest import MakeSft
from tests.rlhf.run.test_recovery import faulty_forwards, room_for
from tests.rlhf.run.test_resume import attempt, finished, hand_over
from training.rlhf.__main__ import main
from training.rlhf.run import origin_file
from training.rlhf.run.manifest import manifest_sha256

Reproduce = Callable[[Path], tuple[int, str]]


@pytest.fixture
def reproduce(capsys: pytest.CaptureFixture[str]) -> Reproduce:
    """The exit status of the command, and what it says."""

    def run_again(run: Path) -> tuple[int, str]:
        capsys.readouterr()
        before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
        status = main(["reproduce", str(run)])
        assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before
        said = capsys.readouterr()
        return status, said.out or said.err.splitlines()[-1]

    return run_again


@pytest.fixture
def sft(make_sft: MakeSft) -> Path:
    run = make_sft()
    assert main(["sft", str(run)]) == 0
    return run


def change(path: Path, **values: Any) -> None:
    """Other values in a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_run_is_reproduced_byte_by_byte(sft: Path, reproduce: Reproduce) -> None:
    status, said = reproduce(sft)
    assert status == 0
    assert said.startswith("The run was reproduced: its metrics agree, and all bytes of ")
    assert "model.safetensors" in said
    assert "Changed since" not in said


def test_a_parent_with_a_relative_path_is_found(sft: Path, reproduce: Reproduce, models: dict[str, Path]) -> None:
    shutil.copytree(models["llama"], sft.parent / "base")
    parent = {"path": "../base", "manifest_sha256": manifest_sha256(models["llama"])}
    change(sft / "config.json", parents={"base": parent})
    assert reproduce(sft)[0] == 0


def test_records_that_were_changed_are_named(sft: Path, reproduce: Reproduce) -> None:
    rows = [demonstration(n) for n in range(1, 7)]
    (sft / "data/demonstrations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    status, said = reproduce(sft)
    assert status == 80
    assert "output/model.safetensors differs (" in said
    assert "metrics.jsonl differs from step 1 on: sft/loss was " in said
    assert said.endswith("which may explain it:\n  data/demonstrations.jsonl has changed: its hash differs.\n")


def test_a_seed_that_was_changed_is_named(sft: Path, reproduce: Reproduce) -> None:
    change(sft / "config.json", seed=1)
    status, said = reproduce(sft)
    assert status == 80
    assert said.endswith("which may explain it:\n  seed in the config was 0 and is now 1.\n")


def test_an_output_that_was_changed_afterwards_is_told_from_one_that_came_out_otherwise(
    sft: Path, reproduce: Reproduce
) -> None:
    path = sft / "attempts/1/output/model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    status, said = reproduce(sft)
    assert status == 80
    assert "output/model.safetensors of the run has changed since it was written.\n" in said
    assert "differs" not in said
    assert said.endswith("which may explain it:\n  Nothing that origin.json records.\n")


def test_another_version_and_another_machine_are_named(sft: Path, reproduce: Reproduce) -> None:
    path = sft / "attempts/1/origin.json"
    origin = origin_file.read(path.parent)
    origin["versions"]["torch"] = "1.0"
    origin["code"] = {"version": "0.0", "commit": "c0ffee" * 6, "is_changed": True, "sha256": "0" * 64}
    origin["hardware"] |= {"cpu": "Abacus", "gpus": [{"name": "H0", "memory_bytes": 1}]}
    origin["config"]["dtype"] = "auto"
    change(sft / "config.json", dtype="auto")
    change(path, **origin)
    status, said = reproduce(sft)
    assert status == 0
    changes = said.partition("Changed since the run, without effect on its bytes:\n")[2].splitlines()
    assert "  requirements.lock has changed." not in changes
    assert any(line.startswith("  torch was 1.0 and is now ") for line in changes)
    assert changes[0].startswith(
        "  The engine's code has changed: it was 0.0 (commit c0ffeec0ffee with changes) and is"
    )
    assert any(line.startswith("  The CPU was Abacus and is now ") for line in changes)
    assert "  The GPU was H0 and is now none." in changes
    assert "  dtype is auto, so it may be another one on this hardware." in changes


def test_a_run_that_was_killed_and_resumed_is_reproduced(
    make_sft: MakeSft,
    tmp_path: Path,
    reproduce: Reproduce,
) -> None:
    counted = tmp_path / "counted"
    assert attempt(make_sft("whole", checkpoint_seconds=0), "sft", counted=counted) == 0
    run = make_sft(checkpoint_seconds=0)
    assert attempt(run, "sft", events=int(counted.read_text()) * 2 // 3) == -9
    assert list(run.glob("attempts/1/checkpoints/step-*"))
    hand_over(run)
    assert attempt(run, "sft") == 0
    assert finished(run).name == "2"
    assert reproduce(run)[0] == 0


def test_a_recovery_whose_cause_comes_again_is_reproduced_with_it(
    make_sft: MakeSft,
    reproduce: Reproduce,
) -> None:
    run = make_sft(batch_tokens=60)
    with room_for(30):
        assert main(["sft", str(run)]) == 0
        assert origin_file.read(run / "attempts/1")["recoveries"]
        assert reproduce(run)[0] == 0


def test_a_recovery_whose_cause_does_not_come_again_explains_other_bytes(
    make_sft: MakeSft,
    reproduce: Reproduce,
) -> None:
    run = make_sft()
    with faulty_forwards(5, 6, 7):
        assert main(["sft", str(run)]) == 0
    status, said = reproduce(run)
    assert status == 80
    assert "learning_rate in the config was 0.0005 and is now 0.001." in said
    assert "The run recovered from a problem that did not come again in the same way: “After step " in said


def test_a_run_from_before_there_were_origins_is_compared_all_the_same(sft: Path, reproduce: Reproduce) -> None:
    (sft / "attempts/1/origin.json").unlink()
    assert reproduce(sft)[0] == 0
    change(sft / "config.json", learning_rate=1e-2)
    status, said = reproduce(sft)
    assert status == 80
    assert said.endswith("Nobody can say what: the run is older than origin.json.\n")


def test_a_run_whose_output_was_deleted_is_compared_with_its_hashes(sft: Path, reproduce: Reproduce) -> None:
    shutil.rmtree(sft / "attempts/1/output")
    assert reproduce(sft)[0] == 0
    change(sft / "config.json", learning_rate=1e-2)
    assert reproduce(sft)[0] == 80


def test_what_is_needed_and_gone_is_named(sft: Path, reproduce: Reproduce) -> None:
    change(sft / "config.json", parents={"base": {"path": "../nowhere", "manifest_sha256": "0" * 64}})
    assert reproduce(sft) == (77, "there is no model directory for parents.base")
    for name in ("attempts/1/metrics.jsonl", "data/demonstrations.jsonl"):
        (sft / name).unlink()
        gone = f"{name} is no longer there, and the run cannot be reproduced without it: restore it first"
        assert reproduce(sft) == (77, gone)


def test_a_run_of_several_processes_is_not_repeated_by_one(make_sft: MakeSft, reproduce: Reproduce) -> None:
    status, said = reproduce(make_sft(processes=2))
    assert status == 77
    assert "had 2 processes" in said


def test_a_run_that_has_not_finished_has_nothing_to_compare_with(
    make_sft: MakeSft,
    reproduce: Reproduce,
) -> None:
    run = make_sft()
    status, said = reproduce(run)
    assert status == 77
    assert said.endswith(f"finish it with python -m training.rlhf sft {run}")
    assert not (run / "attempts").exists()


def test_the_advice_for_an_unfinished_run_names_the_path_as_it_was_given(
    make_sft: MakeSft, reproduce: Reproduce, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(make_sft())
    _status, said = reproduce(Path())
    assert said.endswith("finish it with python -m training.rlhf sft .")


@pytest.mark.parametrize("torn", ['{"step": 2, "met', "[]", '{"step": 2, "metrics": null}'])
def test_metrics_that_are_damaged_are_named_before_anything_runs(sft: Path, reproduce: Reproduce, torn: str) -> None:
    metrics = sft / "attempts/1/metrics.jsonl"
    lines = metrics.read_text().splitlines()
    metrics.write_text("\n".join([*lines[:-1], torn]))
    with forward_hook(lambda *_: pytest.fail("the stage runs")):
        status, said = reproduce(sft)
    fault = f"attempts/1/metrics.jsonl is damaged in line {len(lines)}"
    assert (status, said) == (77, f"{fault}, and the run cannot be reproduced without it: restore it first")


@pytest.mark.parametrize("manifest", ["[]", '{"files": [1]}', '{"files": {"model.safetensors": 1}}', "{"])
def test_an_output_without_hashes_that_can_be_read_counts_as_unfinished(
    sft: Path, reproduce: Reproduce, manifest: str
) -> None:
    origin = origin_file.read(sft / "attempts/1")
    del origin["output"]
    (sft / "attempts/1/origin.json").write_text(json.dumps(origin))
    (sft / "attempts/1/output/manifest.json").write_text(manifest)
    status, said = reproduce(sft)
    assert status == 77
    assert said.startswith("this run has not finished")
