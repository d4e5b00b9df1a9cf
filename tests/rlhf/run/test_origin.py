"""What an attempt leaves about where its result comes from, however it ends."""

import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.rlhf.run.conftest import MakeSft
from tests.rlhf.run.test_recovery import faulty_forwards
from tests.rlhf.run.test_resume import attempt, hand_over
from training.rlhf.__main__ import main
from training.rlhf.config import load_config
from training.rlhf.run import origin_file
from training.rlhf.run.manifest import MANIFEST, hashes_of, manifest_sha256


def origin_of(run: Path, fence: int = 1) -> dict[str, Any]:
    return origin_file.read(run / f"attempts/{fence}")


def test_a_finished_attempt_says_what_it_computed_with_from_what_and_what_came_of_it(
    make_sft: MakeSft, models: dict[str, Path]
) -> None:
    run = make_sft(seed=3)
    assert main(["sft", str(run)]) == 0
    origin = origin_of(run)
    root = Path(__file__).parents[3]
    assert origin["versions"]["python"] == platform.python_version()
    assert origin["versions"]["torch"] == torch.__version__
    assert origin["code"]["sha256"] == origin_file.code()["sha256"]
    lock = {"requirements.lock": root / "requirements.lock"}
    assert origin["lock_sha256"] == hashes_of(lock)["requirements.lock"]["sha256"]
    assert (origin["config"]["stage"], origin["config"]["seed"], origin["config"]["epochs"]) == ("sft", 3, 3)
    assert origin["parents"] == {"base": manifest_sha256(models["llama"])}
    data = {"demonstrations.jsonl": run / "data/demonstrations.jsonl"}
    assert origin["data"] == hashes_of(data)
    assert origin["hardware"]["threads"] == 1 and origin["hardware"]["cpu"]
    assert origin["hardware"]["instructions"] == torch.backends.cpu.get_cpu_capability()
    manifest = json.loads((run / "attempts/1/output" / MANIFEST).read_text())
    assert origin["output"] == {"sha256": manifest["sha256"], "files": manifest["files"]}
    assert (origin["exit"], origin["earlier"], origin["recoveries"]) == ("done", [], [])
    assert 0 < origin["wall_s"] < 100


def test_it_names_no_folder_host_or_variable(
    make_sft: MakeSft, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", "not-to-be-told")
    run = make_sft()
    assert main(["sft", str(run)]) == 0
    text = (run / "attempts/1/origin.json").read_text()
    for private in ("not-to-be-told", str(run), str(models["llama"]), str(Path.home()), str(Path.cwd())):
        assert private not in text
    assert not platform.node() or f'"{platform.node()}"' not in text


def test_a_killed_attempt_leaves_the_beginning_and_the_next_one_names_it(make_sft: MakeSft) -> None:
    run = make_sft(checkpoint_seconds=0)
    assert attempt(run, "sft", events=100) == -9
    first = origin_of(run)
    assert first["data"] and first["hardware"] and first["config"]["seed"] == 0
    assert not {"exit", "wall_s", "output"} & first.keys()
    hand_over(run)
    assert attempt(run, "sft") == 0
    assert origin_of(run) == first
    begun = first["began_at"]
    assert origin_of(run, 2)["earlier"] == [{"attempt": "1", "began_at": begun, "wall_s": None, "exit": None}]


def test_a_refused_attempt_says_so(make_sft: MakeSft) -> None:
    run = make_sft()
    records = run / "data/demonstrations.jsonl"
    kept = records.read_text()
    records.write_text("")
    assert main(["sft", str(run)]) == 77
    assert origin_of(run)["exit"] == "nothing_to_learn"
    records.write_text(kept)
    assert main(["sft", str(run)]) == 0
    [earlier] = origin_of(run)["earlier"]
    assert (earlier["attempt"], earlier["exit"]) == ("1", "nothing_to_learn")
    assert earlier["wall_s"] > 0


def test_records_that_cannot_be_read_are_refused_by_the_stage_and_have_no_hash(make_sft: MakeSft) -> None:
    run = make_sft()
    (run / "data/demonstrations.jsonl").unlink()
    (run / "data/demonstrations.jsonl").mkdir()
    assert main(["sft", str(run)]) == 77
    assert (origin_of(run)["data"], origin_of(run)["exit"]) == ({"demonstrations.jsonl": None}, "records")


def test_the_config_is_the_one_that_a_recovery_left(make_sft: MakeSft) -> None:
    run = make_sft()
    with faulty_forwards(5, 6, 7):
        assert main(["sft", str(run)]) == 0
    origin = origin_of(run)
    asked = load_config(run / "config.json")
    assert origin["config"]["learning_rate"] == asked.learning_rate / 2  # type: ignore[attr-defined]
    assert [each["kind"] for each in origin["recoveries"]] == ["not_finite"]


def test_code_in_a_checkout_has_a_commit_and_says_whether_it_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    file = tmp_path / "engine/run/origin_file.py"
    file.parent.mkdir(parents=True)
    file.write_text("# as it was\n")
    monkeypatch.setattr(origin_file, "ENGINE", tmp_path / "engine")
    git("init")
    untracked = origin_file.code()
    assert (untracked["commit"], untracked["is_changed"]) == (None, None), "another project's checkout around it"
    git("add", ".")
    git("commit", "-m", "all")
    committed = origin_file.code()
    assert len(committed["commit"]) == 40 and committed["is_changed"] is False
    file.write_text("# as it is\n")
    changed = origin_file.code()
    assert (changed["commit"], changed["is_changed"]) == (committed["commit"], True)
    assert changed["sha256"] != committed["sha256"]
    monkeypatch.setenv("PATH", "")
    without_git = origin_file.code()
    assert (without_git["commit"], without_git["sha256"]) == (None, changed["sha256"])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 2}'])
def test_what_is_no_origin_is_none(tmp_path: Path, text: str) -> None:
    assert origin_file.read(tmp_path) == {}
    (tmp_path / origin_file.FILE).write_text(text)
    assert origin_file.read(tmp_path) == {}
