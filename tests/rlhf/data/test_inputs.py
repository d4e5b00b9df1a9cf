"""What a run is given: read strictly, and refused with one sentence that says where it is wrong."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.rlhf.conftest import MakeRun
from training.rlhf.__main__ import main
from training.rlhf.config import STAGES, Parent, SFTConfig, parse, to_json
from training.rlhf.data.records import read_corpus, read_demonstrations, read_prompts, read_rankings
from training.rlhf.exits import InvalidInput

ASK = [{"role": "user", "content": "Why?"}]
DEMONSTRATION = {"id": "1", "messages": ASK, "response": "Because."}
BASE = {"base": {"path": "base", "manifest_sha256": "0"}}
SLATE = {
    "slate_id": 1,
    "prompt_id": 2,
    "messages": ASK,
    "completions": [{"text": "So.", "finish_reason": "stop"}, {"text": "No", "finish_reason": "length"}],
    "judgements": [{"id": 3, "annotator": 4, "round": None, "places": [1, None]}],
}


def test_half_of_a_character_is_refused_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "demonstrations.jsonl"
    rows = [DEMONSTRATION, {**DEMONSTRATION, "id": "2", "response": "half \ud83d"}]
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(InvalidInput, match=r"demonstrations.jsonl:2: .*surrogates not allowed"):
        read_demonstrations(path)


@pytest.mark.parametrize("stage", STAGES)
def test_a_config_survives_the_way_to_json_and_back(stage: str) -> None:
    parents = {role: Parent(path=role, manifest_sha256="0") for role in STAGES[stage].required_parents}
    cfg = STAGES[stage](seed=3, parents=parents)
    assert parse(json.loads(json.dumps(to_json(cfg)))) == cfg


@pytest.mark.parametrize("stage", STAGES)
def test_every_field_of_a_config_explains_itself(stage: str) -> None:
    source = Path("training/rlhf/config.py").read_text()
    for field in dataclasses.fields(STAGES[stage]):
        assert f"    {field.name}: " in source
    assert STAGES[stage].__doc__


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"epoch": 3}, "epoch"),
        ({"epochs": "3"}, "epochs"),
        ({"epochs": True}, "epochs"),
        ({"epochs": 0}, "epochs"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"dtype": "fp16"}, "dtype"),
        ({"threads": 0}, "threads"),
        ({"schema": 2}, "schema"),
        ({"stage": "dpo"}, "stage"),
        ({"parents": {}}, "parents.base"),
        ({"parents": {**BASE, "reward": BASE["base"]}}, "parents.reward"),
        ({"parents": {"base": {"path": "base"}}}, "manifest_sha256"),
        ({"parents": []}, "parents"),
        ({"seed": None}, "seed"),
    ],
)
def test_a_field_that_is_wrong_is_refused_by_name(change: dict[str, Any], named: str) -> None:
    raw = {"schema": 1, "stage": "sft", "seed": 0, "parents": BASE}
    assert isinstance(parse(raw), SFTConfig)
    with pytest.raises(InvalidInput, match=named):
        parse({**raw, **change})


def test_a_seed_must_be_given() -> None:
    with pytest.raises(InvalidInput, match="seed is missing"):
        parse({"schema": 1, "stage": "pretraining"})


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    (demonstration,) = read_demonstrations(lines(tmp_path / "demonstrations.jsonl", DEMONSTRATION, ""))
    assert (demonstration.id, demonstration.response) == ("1", "Because.")
    (slate,) = read_rankings(lines(tmp_path / "rankings.jsonl", SLATE))
    assert (slate.prompt_id, slate.judgements[0].annotator, slate.judgements[0].places) == ("2", "4", [1, None])
    assert [completion.stopped for completion in slate.completions] == [True, False]
    answered = [*ASK, {"role": "assistant", "content": "So."}]
    documents = read_corpus(lines(tmp_path / "corpus.jsonl", {"text": "Words."}, {"id": 1, "messages": answered}))
    assert [document.texts() for document in documents] == [["Words."], ["Why?", "So."]]


@pytest.mark.parametrize(
    "bad",
    [
        "{",
        [],
        {"id": "2", "messages": ASK},
        {"id": "2", "messages": [], "response": "So."},
        {"id": "2", "messages": ASK, "response": None},
        {"id": "2", "messages": ASK, "response": "So.", "extra": 1},
        {"id": "2", "messages": [{"role": "robot", "content": "?"}], "response": "So."},
        {"id": "2", "messages": [*ASK, {"role": "assistant", "content": "So."}], "response": "So."},
        {"id": True, "messages": ASK, "response": "So."},
    ],
)
def test_a_bad_line_is_refused_with_file_and_number(tmp_path: Path, bad: Any) -> None:
    with pytest.raises(InvalidInput, match=r"demonstrations\.jsonl:2: "):
        read_demonstrations(lines(tmp_path / "demonstrations.jsonl", DEMONSTRATION, bad))


@pytest.mark.parametrize(
    "change",
    [
        {"completions": SLATE["completions"][:1], "judgements": []},
        {"judgements": [{"id": 3, "annotator": 4, "round": 1, "places": [1]}]},
        {"judgements": [{"id": 3, "annotator": 4, "round": 1, "places": [1, "2"]}]},
        {"completions": [{"text": "So.", "finish_reason": "tired"}] * 2},
    ],
)
def test_a_slate_that_does_not_hold_together_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=r"rankings\.jsonl:1: "):
        read_rankings(lines(tmp_path / "rankings.jsonl", {**SLATE, **change}))


def test_an_id_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="twice"):
        read_prompts(lines(tmp_path / "prompts.jsonl", *[{"id": "1", "messages": ASK}] * 2))


def spoilt(model: Path, to: Path, spoil: str) -> Path:
    shutil.copytree(model, to)
    match spoil:
        case "a pickle":
            (to / "model.safetensors").rename(to / "PYTORCH_MODEL.BIN")
        case "auto_map":
            config = json.loads((to / "config.json").read_text())
            (to / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "own.Model"}}))
        case "no safetensors":
            (to / "model.safetensors").unlink()
        case "cannot be read":
            (to / "model.safetensors").write_bytes(b"not a header")
        case "EOS":
            config = json.loads((to / "tokenizer_config.json").read_text())
            del config["eos_token"]
            (to / "tokenizer_config.json").write_text(json.dumps(config))
        case "is missing a weight":
            config = json.loads((to / "config.json").read_text())
            (to / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    return to


@pytest.mark.parametrize(
    "spoil", ["a pickle", "auto_map", "no safetensors", "cannot be read", "EOS", "is missing a weight"]
)
def test_a_model_directory_that_cannot_be_trusted_ends_in_77(
    make_run: MakeRun, models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: str
) -> None:
    base = spoilt(models["llama"], tmp_path / "base", spoil)
    run = make_run("sft", parents={"base": base}, data={"demonstrations": [DEMONSTRATION]}, max_response=16)
    assert main(["sft", str(run)]) == 77
    sentence = capsys.readouterr().err.splitlines()[-1]
    assert spoil in sentence
    assert not (run / "attempts/1/output").exists()


def test_a_parent_that_has_changed_since_it_was_chosen_ends_in_77(
    make_run: MakeRun, models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "base"
    shutil.copytree(models["gpt2"], base)
    run = make_run("sft", parents={"base": base}, data={"demonstrations": [DEMONSTRATION]})
    (base / "chat_template.jinja").write_text("{{ messages[-1]['content'] }}")
    assert main(["sft", str(run)]) == 77
    assert "parents.base has changed" in capsys.readouterr().err


def test_nothing_to_learn_from_ends_in_77(
    make_run: MakeRun, models: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("sft", parents={"base": models["gpt2"]}, data={"demonstrations": []})
    assert main(["sft", str(run)]) == 77
    assert "no demonstrations" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stage", "roles", "records"),
    [
        ("sft", ["base"], "demonstrations"),
        ("reward", ["policy"], "rankings"),
        ("ppo", ["policy", "reference", "reward"], "prompts"),
        ("evaluation", ["policy", "reference"], "heldout_prompts"),
        ("sampling", ["policy"], "prompts"),
    ],
)
def test_records_of_which_more_than_a_twentieth_is_too_long_end_in_77(
    make_run: MakeRun,
    models: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    stage: str,
    roles: list[str],
    records: str,
) -> None:
    row = {"demonstrations": DEMONSTRATION, "rankings": SLATE}.get(records, {"id": 1, "messages": ASK})
    key = "slate_id" if records == "rankings" else "id"
    long = [{"role": "user", "content": "why " * 200}]
    rows = [{**row, key: number, "messages": long if number < 2 else ASK} for number in range(20)]
    run = make_run(stage, parents=dict.fromkeys(roles, models["llama"]), data={records: rows}, max_response=16)
    assert main([stage, str(run)]) == 77
    assert "2 of 20" in capsys.readouterr().err


def test_a_config_of_another_stage_ends_in_77(make_run: MakeRun, models: dict[str, Path]) -> None:
    assert main(["reward", str(make_run("sft", parents={"base": models["gpt2"]}))]) == 77


def test_a_run_directory_without_config_ends_in_77(tmp_path: Path) -> None:
    assert main(["sft", str(tmp_path)]) == 77
