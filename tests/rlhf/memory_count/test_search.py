"""The settings with which a stage fits, found by counting: `python -m training.rlhf memory RUN_DIR --within BYTES`."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.rlhf.conftest import MakeRun
from tests.rlhf.memory_count.test_report import DATA, parents
from tests.rlhf.reward_runs import question
from training.rlhf.__main__ import main

__all__ = ["parents"]

NOTHING = 1  # bytes: nothing fits, so that everything is tried
ASKED = [{"id": n, "messages": question(n)} for n in range(80)]
LONG = [{**one, "response": one["response"] * 12} for one in DATA["sft"]["demonstrations"]]


def found(capsys: pytest.CaptureFixture[str], within: int, *runs: Path) -> list[dict[str, Any]]:
    assert main(["memory", *map(str, runs), "--device", "cpu", "--within", str(within), "--json"]) == 0
    return json.loads(capsys.readouterr().out)["stages"]


def tried(capsys: pytest.CaptureFixture[str], within: int, run: Path) -> list[tuple[dict[str, Any], int]]:
    (stage,) = found(capsys, within, run)
    return [(variant["settings"], variant["needed"]) for variant in stage["counted"]]


@pytest.fixture
def sft(parents: dict[str, Path], make_run: MakeRun) -> Path:
    return make_run(
        "sft", parents={"base": parents["policy"]}, data={"demonstrations": LONG}, max_response=64,
        activation_checkpointing="off", batch_tokens=600,
    )  # fmt: skip


@pytest.fixture
def sampling(parents: dict[str, Path], make_run: MakeRun) -> Path:
    return make_run(
        "sampling", name="answers", parents={"policy": parents["policy"]}, data={"prompts": ASKED},
        max_response=64,
    )  # fmt: skip


def test_what_fits_is_left_as_it_is(sft: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [settings for settings, _needed in tried(capsys, 1 << 40, sft)] == [{}]


def test_activations_are_computed_again_before_micro_batches_shrink(
    sft: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = {"activation_checkpointing": "on"}
    ladder = tried(capsys, NOTHING, sft)
    assert [settings for settings, _needed in ladder] == [
        {},
        again,
        {**again, "batch_tokens": 300},
        {**again, "batch_tokens": 150},  # in which a single sequence fits: smaller ones would change nothing
    ]
    needed = [bytes for _settings, bytes in ladder]
    assert needed == sorted(needed, reverse=True)
    assert tried(capsys, needed[2], sft) == ladder[:3], "the search ends with the first settings that fit"


def test_what_a_run_decides_by_itself_is_no_change_of_its_settings(
    parents: dict[str, Path], make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(
        "sft", parents={"base": parents["policy"]}, data={"demonstrations": LONG}, max_response=64, batch_tokens=600
    )
    assert [settings for settings, _needed in tried(capsys, NOTHING, run)] == [
        {}, {}, {"batch_tokens": 300}, {"batch_tokens": 150}
    ]  # fmt: skip


def test_where_answers_need_most_fewer_are_written_at_once(sampling: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ladder = tried(capsys, NOTHING, sampling)
    assert len(ladder) > 1
    assert all(settings.keys() == {"cache_mb"} for settings, _needed in ladder[1:])
    assert ladder[-1][1] < ladder[0][1]


def test_a_stage_that_cannot_be_counted_hides_no_other(
    sft: Path, sampling: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (sampling / "data/prompts.jsonl").write_text("")
    out = tmp_path / "counts.json"
    assert (
        main(["memory", str(sampling), str(sft), "--device", "cpu", "--within", str(1 << 40), "--out", str(out)]) == 0
    )
    refused, counted = json.loads(out.read_text("utf-8"))["stages"]
    assert (refused["run"], refused["refusal"]["kind"]) == ("answers", "nothing_to_learn")
    assert counted["counted"][0]["settings"] == {}
    assert capsys.readouterr().out == ""


def test_the_table_names_the_settings_that_were_tried(sft: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory", str(sft), "--device", "cpu", "--within", "1"]) == 0
    assert "activation_checkpointing on, batch_tokens 300" in capsys.readouterr().out
