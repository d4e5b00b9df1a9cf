"""What a watcher can read while a stage loads, reads, works and saves."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.rlhf.conftest import MakeRun
from tests.rlhf.reward_runs import demonstration, question, ranked_slate
from training.rlhf.__main__ import main
from training.rlhf.run import phases
from training.rlhf.run.directory import RunDirectory
from training.rlhf.run.phases import Phases


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Everything that any phase.json says in the course of a test, however short the moment."""
    monkeypatch.setattr(phases, "WRITE_EVERY_S", 0)
    seen: list[dict[str, Any]] = []
    replace = Path.replace

    def noticed(path: Path, target: Path) -> Path:
        if target.name == "phase.json":
            seen.append(json.loads(path.read_text()))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", noticed)
    return seen


def test_a_phase_says_how_far_it_is_and_counts_as_progress(tmp_path: Path, written: list[dict[str, Any]]) -> None:
    reports: list[int] = []
    phase = Phases(tmp_path, lambda: reports.append(1))
    phase.enter("loading", "policy", total=100, unit="bytes")
    phase.advance(60)
    phase.advance(40)
    phase.enter("saving", "output")
    assert [(one["name"], one["what"], one["done"], one["total"], one["unit"]) for one in written] == [
        ("loading", "policy", 0, 100, "bytes"),
        ("loading", "policy", 60, 100, "bytes"),
        ("loading", "policy", 100, 100, "bytes"),
        ("saving", "output", 0, None, None),
    ]
    assert len(reports) == len(written)


def test_the_rows_that_are_read_are_counted(tmp_path: Path, written: list[dict[str, Any]]) -> None:
    assert list(Phases(tmp_path, lambda: None).read("prompts", ["a", "b"])) == ["a", "b"]
    assert [(one["what"], one["done"], one["total"], one["unit"]) for one in written] == [
        ("prompts", done, 2, "items") for done in range(3)
    ]


def test_a_stage_loads_reads_works_saves_and_works_on(
    make_run: MakeRun, models: dict[str, Path], written: list[dict[str, Any]]
) -> None:
    rows = {"demonstrations": [demonstration(n) for n in range(4)]}
    options = {"epochs": 1, "batch_size": 2, "max_response": 32, "checkpoint_seconds": 0}
    run = make_run("sft", parents={"base": models["llama"]}, data=rows, **options)
    assert main(["sft", str(run)]) == 0
    order = [(one["name"], one["what"]) for one in written]
    assert list(dict.fromkeys(order)) == [
        ("loading", "base"),
        ("reading", "demonstrations"),
        ("loading", "checkpoint"),
        ("working", "steps"),
        ("saving", "checkpoint"),
        ("saving", "output"),
    ]
    assert order[-2:] == [("working", "steps"), ("saving", "output")]
    weights = (models["llama"] / "model.safetensors").stat().st_size
    for name, what in (("loading", "base"), ("saving", "checkpoint")):
        last = [one for one in written if (one["name"], one["what"]) == (name, what)][-1]
        assert last["done"] == last["total"] > weights * (1 if name == "loading" else 2)
        assert last["unit"] == "bytes"


def test_a_model_is_hashed_once_in_an_attempt(
    make_run: MakeRun, models: dict[str, Path], written: list[dict[str, Any]]
) -> None:
    run = RunDirectory(make_run("sft", parents={"base": models["llama"]}))
    run.parent(run.config(), "base")
    before = len(written)
    assert before > 2
    run.parent(run.config(), "base")
    (again,) = written[before:]
    assert again["done"] == again["total"]


@pytest.mark.parametrize("stage", ["evaluation", "sampling"])
def test_answers_report_how_many_of_the_prompts_are_done(
    make_run: MakeRun, models: dict[str, Path], stage: str
) -> None:
    second, records, each = {
        "evaluation": ("reference", "heldout_prompts", {"draws": 3}),
        "sampling": ("parent", "prompts", {"k": 4}),
    }[stage]
    parents = {"policy": models["gpt2"], second: models["gpt2"]}
    prompts = [{"id": n, "messages": question(n)} for n in range(10)]
    run = make_run(stage, parents=parents, data={records: prompts}, max_response=8, batch_tokens=128, **each)
    assert main([stage, str(run)]) == 0
    rows = [json.loads(line) for line in (run / "attempts/1/metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows]
    assert steps == sorted(steps)
    assert (steps[0], steps[-1]) == (0, 10)
    assert len(set(steps)) > 2  # answers end when they end
    assert {row["total"] for row in rows} == {10}
    assert rows[0]["metrics"] == {"data/used": 10, "data/too_long": 0, "data/refused": 0}
    assert rows[-1]["metrics"] and not any(row["metrics"] for row in rows[1:-1])


def test_what_is_not_used_of_the_rankings_is_counted_before_the_first_step(
    make_run: MakeRun, models: dict[str, Path]
) -> None:
    slates = [ranked_slate(n) for n in range(30)]  # one of three answers was cut, and is preferred to the others
    slates[3]["judgements"] = [{**one, "places": [1] * len(one["places"])} for one in slates[3]["judgements"]]
    slates[4]["messages"] = [{"role": "user", "content": "why " * 200}]
    run = make_run("reward", parents={"policy": models["llama"]}, data={"rankings": slates}, max_response=32)
    assert main(["reward", str(run)]) == 0
    first = json.loads((run / "attempts/1/metrics.jsonl").read_text().splitlines()[0])
    assert (first["step"], first["total"]) == (0, 1)
    assert first["metrics"] == {
        "data/used": 28,
        "data/too_long": 1,
        "data/refused": 0,
        "data/tied": 1,
        "data/cut": 28,
        "data/pairs": 56,
    }
