"""How an attempt ended otherwise than well, as data beside the exit status."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.rlhf import templates
from tests.rlhf.conftest import MakeRun
from tests.rlhf.templates import model_with
from training.rlhf import endings
from training.rlhf.__main__ import main
from training.rlhf.run.directory import RunDirectory
from training.rlhf.stages import sft

ASK = [{"role": "user", "content": "Why?"}]
DEMONSTRATION = {"id": "1", "messages": ASK, "response": "Because."}
SYSTEM = [{"role": "system", "content": "Be brief."}, *ASK]


@pytest.fixture
def run(make_run: MakeRun, models: dict[str, Path]) -> Path:
    parents = {"base": models["gpt2"]}
    return make_run("sft", parents=parents, data={"demonstrations": [DEMONSTRATION]}, max_response=16, epochs=1)


def left(run: Path, fence: str = "1") -> dict[str, Any]:
    return endings.read(run / "attempts" / fence)


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """The stage meets this while it trains."""

    def train(*_: object) -> None:
        raise error

    monkeypatch.setattr(sft, "run_stage", train)


def test_a_stage_that_is_done_leaves_none_and_takes_away_what_an_earlier_try_left(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "epochs": 0}))
    assert main(["sft", str(run)]) == 77
    assert left(run) == {"kind": "config", "field": "epochs", "sentence": "epochs must be between 1 and 1,000"}
    (run / "config.json").write_text(json.dumps(config))
    assert main(["sft", str(run)]) == 0
    assert left(run) == {}


def test_a_refusal_lies_in_the_folder_of_the_attempt_that_the_fence_names(run: Path) -> None:
    (run / "fence").write_text("7")
    (run / "data/demonstrations.jsonl").write_text("")
    assert main(["sft", str(run)]) == 77
    assert left(run, "7") == {
        "kind": "nothing_to_learn",
        "numbers": {"what": "demonstrations"},
        "sentence": "no demonstrations",
    }


def test_whoever_loses_the_fence_writes_into_no_other_attempt(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(*_: object) -> None:
        (run / "fence").write_text("2")
        (run / "attempts/2").mkdir()
        RunDirectory.check_fence(holder[0])

    holder: list[RunDirectory] = []
    monkeypatch.setattr(sft, "run_stage", lambda directory, _cfg: (holder.append(directory), lose()))
    assert main(["sft", str(run)]) == 76
    assert left(run)["kind"] == "fence_lost"
    assert list((run / "attempts/2").iterdir()) == []


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (KeyError("x"), "crash"),
        (ImportError("No module named 'flash_attn'"), "install"),
        (RuntimeError("CUDA error: device-side assert triggered"), "device"),
        (ValueError("CUDA error"), "crash"),
    ],
)
def test_a_crash_is_reported_by_its_type_and_still_crashes(
    run: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: str
) -> None:
    fail_with(monkeypatch, error)
    with pytest.raises(type(error)):
        main(["sft", str(run)])
    assert left(run)["kind"] == kind
    assert left(run)["numbers"] == {"type": type(error).__name__}
    assert left(run)["sentence"] == f"{type(error).__name__}: {error}"


def test_memory_that_runs_out_a_second_time_names_the_field_that_helps(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(monkeypatch, RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert main(["sft", str(run)]) == 77
    assert (left(run)["kind"], left(run)["field"]) == ("memory", "batch_tokens")


def test_memory_that_runs_out_before_the_stage_is_reported_too(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(RunDirectory, "__init__", load)
    with pytest.raises(MemoryError):
        main(["sft", str(run)])
    assert left(run) == {"kind": "memory", "numbers": {"type": "MemoryError"}, "sentence": "MemoryError"}


def test_a_full_disk_is_reported_where_there_is_room_for_it(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, OSError(errno.ENOSPC, "No space left on device"))
    assert main(["sft", str(run)]) == 78
    assert left(run)["kind"] == "disk"


def test_where_nothing_can_be_written_the_exit_status_speaks_alone(tmp_path: Path) -> None:
    (tmp_path / "attempts").write_text("a file where the folder should be")
    endings.write(tmp_path / "attempts/1", {"kind": "disk"})
    assert endings.read(tmp_path / "attempts/1") == {}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"sentence": "?"}', '{"kind": 3}'])
def test_what_is_no_ending_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / endings.FILE).write_text(text)
    assert endings.read(tmp_path) == {}


def test_inspecting_a_run_leaves_nothing_there(run: Path) -> None:
    assert main(["inspect", str(run), "3"]) == 77
    assert not (run / "attempts").exists()


def test_a_directory_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    assert main(["sft", str(tmp_path / "nowhere")]) == 77
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("stage", "roles", "records"),
    [
        ("sft", ["base"], "demonstrations"),
        ("evaluation", ["policy", "reference"], "heldout_prompts"),
        ("sampling", ["policy"], "prompts"),
    ],
)
def test_a_stage_leaves_out_what_the_template_refuses_and_counts_it(
    make_run: MakeRun, models: dict[str, Path], tmp_path: Path, stage: str, roles: list[str], records: str
) -> None:
    model = model_with(templates.WITHOUT_SYSTEM, models["llama"], tmp_path / "model")
    rows = [{**DEMONSTRATION, "id": n, "messages": SYSTEM if n == 3 else ASK} for n in range(4)]
    if records != "demonstrations":
        rows = [{name: row[name] for name in ("id", "messages")} for row in rows]
    parents = dict.fromkeys(roles, model)
    run = make_run(stage, parents=parents, data={records: rows}, max_response=8)
    assert main([stage, str(run)]) == 0
    first = json.loads((run / "attempts/1/metrics.jsonl").read_text().splitlines()[0])["metrics"]
    assert (first["data/used"], first["data/refused"], first["data/too_long"]) == (3, 1, 0)


def test_a_stage_whose_records_are_refused_by_the_dozen_names_them(
    make_run: MakeRun, models: dict[str, Path], tmp_path: Path
) -> None:
    model = model_with(templates.WITHOUT_SYSTEM, models["llama"], tmp_path / "model")
    rows = [{"id": n, "messages": SYSTEM if n % 2 else ASK} for n in range(60)]
    run = make_run("sampling", parents={"policy": model}, data={"prompts": rows}, max_response=8)
    assert main(["sampling", str(run)]) == 77
    ending = left(run)
    assert ending["kind"] == "left_out"
    assert ending["records"] == [str(n) for n in range(1, 41, 2)]
    assert ending["numbers"] == {"what": "prompts", "of": 60, "too_long": 0, "refused": 30}
    assert "no system turn here" in ending["sentence"]
