"""The examination before a round: what would train, as the masks say, and faults that would spoil it, by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.rlhf import templates
from tests.rlhf.data import test_chat
from tests.rlhf.templates import model_with
from training.rlhf import endings
from training.rlhf.__main__ import main
from training.rlhf.data.batching import collate
from training.rlhf.data.chat import Chat
from training.rlhf.examinations import dataset

ASK = [{"role": "user", "content": "What is a fox?"}]
FOX = {"id": 1, "messages": ASK, "response": "A small wild dog."}
SLATE = {
    "slate_id": 1,
    "prompt_id": 1,
    "messages": ASK,
    "completions": [{"text": text, "finish_reason": "stop"} for text in ("A dog.", "A cat.", "No.")],
    "judgements": [{"id": 1, "annotator": "a", "round": 1, "places": [1, 2, 2]}],
}


def examine(directory: Path, models: dict[str, Path], stages: dict[str, Any], **data: list[Any]) -> dict[str, Any]:
    (directory / "data").mkdir(parents=True)
    request = {"models": {name: str(path) for name, path in models.items()}, "stages": stages}
    (directory / "request.json").write_text(json.dumps(request))
    for name, rows in data.items():
        (directory / "data" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["examine", str(directory)]) == 0
    return json.loads((directory / "examination.json").read_text())


def sft(directory: Path, model: Path, *rows: dict[str, Any]) -> dict[str, Any]:
    stages = {"sft": {"model": "base-1", "max_response": 32}}
    return examine(directory / "examination", {"base-1": model}, stages, demonstrations=list(rows))


def blocks(result: dict[str, Any]) -> list[str]:
    return [finding["kind"] for finding in result["findings"] if finding["level"] == "block"]


def test_the_answer_and_its_end_are_marked_as_trained_and_the_prompt_is_not(tmp_path: Path, model_dir: Path) -> None:
    result = sft(tmp_path, model_dir, FOX)
    read, trained, end = result["examples"]["sft"][0]["pieces"]
    chat = Chat.load(model_dir)
    assert (read[0], trained[0], end[0]) == ("read", "trained", "end")
    assert "What is a fox?" in read[1]
    assert trained[1].strip() == "A small wild dog."
    assert end[1] == chat.tokenizer.decode([chat.eos_id])
    assert blocks(result) == []


def test_an_answer_of_nothing_but_its_end_blocks(tmp_path: Path, models: dict[str, Path]) -> None:
    result = sft(tmp_path, models["llama"], FOX, FOX | {"id": 7, "response": " "})
    assert blocks(result) == ["empty_answer"]
    assert result["findings"][0]["numbers"] == {"what": "demonstrations", "count": 1, "ids": ["7"]}


def test_an_answer_that_the_context_cuts_is_reported_as_the_stage_will_count_it(
    tmp_path: Path, model_dir: Path
) -> None:
    chat, endless = Chat.load(model_dir), FOX | {"response": "A dog. " * 300}
    stages = {"sft": {"model": "base-1", "max_response": chat.context - len(chat.prompt_ids(ASK))}}
    result = examine(tmp_path / "examination", {"base-1": model_dir}, stages, demonstrations=[endless])
    assert result["findings"] == [{"level": "warn", "kind": "cut", "numbers": {"cut": 1, "of": 1}}]


def test_a_padding_id_that_is_the_end_blocks_only_where_a_mask_made_from_it_loses_the_end(
    tmp_path: Path, models: dict[str, Path]
) -> None:
    result = sft(tmp_path, models["qwen2"], FOX)  # its padding is its end, and our masks do not come from ids
    assert [(one["kind"], one["level"]) for one in result["findings"]] == [("pad_is_end", "note")]
    chat = Chat.load(models["qwen2"])
    rendered = [chat.rendered(ASK, "A small wild dog.", stopped=True)]
    batch = collate(rendered, chat.pad_id)
    naive = batch._replace(response=batch.response & (batch.tokens != chat.pad_id))
    (found,) = dataset.end_tokens([(rendered, batch), (rendered, naive)], chat)
    assert (found.kind, found.level) == ("end_not_trained", "block")
    assert (found.numbers["lost"], found.numbers["of"]) == (1, 2)


def test_the_end_of_every_answer_is_looked_at_and_not_only_of_those_that_are_shown(
    tmp_path: Path, models: dict[str, Path]
) -> None:
    result = sft(tmp_path, models["qwen2"], *(FOX | {"id": n} for n in range(400)))  # more than one batch of them
    assert len(result["examples"]["sft"]) == 3
    assert result["findings"][0]["numbers"] == {"token": "<|im_end|>", "lost": 0, "of": 400}


def test_models_that_write_conversations_differently_block(tmp_path: Path, models: dict[str, Path]) -> None:
    both = {"base-1": models["llama"], "sft-1": models["qwen2"]}
    result = examine(tmp_path / "examination", both, {})
    assert blocks(result) == ["templates_differ"]
    assert result["findings"][0]["numbers"] == {"models": ["base-1", "sft-1"]}


def test_a_template_that_changes_the_words_of_an_answer_is_reported_and_what_it_writes_trains(
    tmp_path: Path, models: dict[str, Path]
) -> None:
    shouting = shutil.copytree(models["llama"], tmp_path / "shouting")
    template = (shouting / "chat_template.jinja").read_text()
    changed = template.replace("{{ m['content'] }}", "{{ m['content'] | replace('small', 'SMALL') }}")
    (shouting / "chat_template.jinja").write_text(changed)
    result = sft(tmp_path, shouting, FOX, FOX | {"id": 2, "response": " A dog.\n"})
    assert blocks(result) == []
    assert result["findings"] == [
        {"level": "warn", "kind": "template_rewrites", "numbers": {"what": "demonstrations", "count": 1, "ids": ["1"]}}
    ]
    assert result["examples"]["sft"][0]["pieces"][1] == ["trained", "A SMALL wild dog."]


def test_characters_that_the_tokenizer_does_not_know_are_reported_with_their_records(
    tmp_path: Path, models: dict[str, Path]
) -> None:
    model = shutil.copytree(models["llama"], tmp_path / "model")
    test_chat.word_pieces().save(model)
    stages = {stage: {"model": "base-1", "max_response": 32} for stage in ("sft", "reward", "ppo")}
    snow = [{"role": "user", "content": "What is ☃?"}]
    result = examine(
        tmp_path / "examination",
        {"base-1": model},
        stages,
        demonstrations=[FOX, FOX | {"id": 2, "response": "A small ☂ dog."}],
        rankings=[SLATE, SLATE | {"slate_id": 2, "prompt_id": 8, "messages": snow}],
        prompts=[{"id": 1, "messages": ASK}],
    )
    counted = {"count": 1, "of": 2}
    assert [finding["numbers"] for finding in result["findings"] if finding["kind"] == "lost_text"] == [
        counted | {"stages": ["sft"], "what": "demonstrations", "ids": ["2"], "pieces": ["☂"]},
        counted | {"stages": ["reward"], "what": "rankings", "ids": ["8"], "pieces": ["☃"]},
    ]


def test_white_space_that_a_template_strips_is_no_finding(tmp_path: Path, models: dict[str, Path]) -> None:
    model = model_with(templates.WITHOUT_SYSTEM, models["llama"], tmp_path / "model")
    result = sft(tmp_path, model, FOX | {"response": " A small wild dog.\n"})
    assert result["findings"] == []
    assert result["examples"]["sft"][0]["pieces"][1] == ["trained", "A small wild dog."]


TALK = [{"role": "system", "content": "Be brief."}, *ASK, {"role": "assistant", "content": "A dog."}, *ASK]


def test_a_template_that_reads_a_prompt_in_two_ways_is_reported_once_and_blocks_nothing(
    tmp_path: Path, models: dict[str, Path]
) -> None:
    model = model_with(templates.SYSTEM_IN_LAST_USER_TURN, models["llama"], tmp_path / "model")
    stages = {stage: {"model": "base-1", "max_response": 32} for stage in ("sft", "reward")}
    rows = [FOX | {"id": n, "messages": TALK} for n in range(5)]
    slates = [SLATE | {"slate_id": n, "messages": TALK} for n in range(5)]
    result = examine(tmp_path / "examination", {"base-1": model}, stages, demonstrations=rows, rankings=slates)
    assert blocks(result) == []
    assert [one["kind"] for one in result["findings"]] == ["two_ways", "pairs"]
    read, trained, end = result["examples"]["sft"][0]["pieces"]
    assert read[1].endswith("[ASK]Be brief.\n\nWhat is a fox?[/ASK]")
    assert (trained[1], end[1]) == (" A small wild dog.", "</s>")


@pytest.mark.parametrize(("template", "is_opened"), [(templates.THINKS, False), (templates.OPENS_AND_DROPS, True)])
def test_a_model_that_thinks_has_its_note_that_says_what_trains(
    tmp_path: Path, models: dict[str, Path], template: str, is_opened: bool
) -> None:
    model = model_with(template, models["llama"], tmp_path / "model")
    result = sft(tmp_path, model, FOX)
    assert result["findings"] == [{"level": "note", "kind": "thought", "numbers": {"is_opened": is_opened}}]
    read, trained, _end = result["examples"]["sft"][0]["pieces"]
    assert read[1] + trained[1] == "<|user|>What is a fox?<|assistant|><think>\n\n</think>\n\nA small wild dog."
    assert read[1].endswith("<think>\n") is is_opened


def test_a_template_that_separates_the_answer_from_its_prompt_blocks(tmp_path: Path, models: dict[str, Path]) -> None:
    strange = shutil.copytree(models["llama"], tmp_path / "strange")
    (strange / "chat_template.jinja").write_text(
        "{{ messages | length }} {% for m in messages %}{{ m.content }}{% endfor %}"
    )
    result = sft(tmp_path, strange, FOX)
    assert blocks(result) == ["model_refused"]
    assert result["findings"][0]["numbers"]["kind"] == "template"


def test_the_pairs_of_a_ranking_are_counted_without_its_ties(tmp_path: Path, models: dict[str, Path]) -> None:
    stages = {"reward": {"model": "sft-1", "max_response": 32}}
    result = examine(tmp_path / "examination", {"sft-1": models["llama"]}, stages, rankings=[SLATE])
    shown = result["examples"]["reward"][0]
    assert shown["judgements"] == [{"places": [1, 2, 2], "pairs": 2}]
    assert shown["answers"][0] == [["scored", "A dog."], ["end", "</s>"]]
    assert result["findings"] == [{"level": "note", "kind": "pairs", "numbers": {"pairs": 2, "stages": ["reward"]}}]


def test_prompts_too_long_for_the_model_block_when_they_are_more_than_a_few(
    tmp_path: Path, models: dict[str, Path]
) -> None:
    long = {"id": 2, "messages": [{"role": "user", "content": "fox " * 300}]}
    stages = {"ppo": {"model": "base-1", "max_response": 32}}
    rows = [{"id": 1, "messages": ASK}, long]
    result = examine(tmp_path / "one", {"base-1": models["llama"]}, stages, prompts=rows)
    assert blocks(result) == [], "one odd record is left out of however few"
    result = examine(tmp_path / "two", {"base-1": models["llama"]}, stages, prompts=[*rows, long | {"id": 3}])
    assert blocks(result) == ["too_long"]
    assert result["findings"][0]["numbers"]["ids"] == ["2", "3"]
    assert result["examples"]["ppo"][0]["room"] == 32


@pytest.mark.parametrize(
    ("template", "case", "reason", "refused"),
    [
        (templates.WITHOUT_SYSTEM, "prompts-one-system-turn", "no system turn here", ["7"]),
        (templates.ALTERNATING, "prompts-two-users-in-a-row", "turns must alternate", ["0", "1"]),
    ],
)
def test_prompts_that_the_template_refuses_are_left_out_named_and_counted(
    tmp_path: Path, models: dict[str, Path], template: str, case: str, reason: str, refused: list[str]
) -> None:
    model = model_with(template, models["llama"], tmp_path / "model")
    rows = [json.loads(line) for line in (templates.CASES / f"{case}.jsonl").read_text().splitlines()]
    prompts = [
        {"id": n, "messages": row.get("messages") or [{"role": "user", "content": row["text"]}]}
        for n, row in enumerate([*rows, *({"text": f"And {n}?"} for n in range(40 * (len(rows) < 20)))])
    ]
    stages = {stage: {"model": "base-1", "max_response": 32} for stage in ("ppo", "sampling")}
    result = examine(tmp_path / "examination", {"base-1": model}, stages, prompts=prompts)
    (found,) = result["findings"]
    assert (found["level"], found["kind"]) == ("warn", "refused")
    assert found["numbers"] == {
        "stages": ["ppo", "sampling"],
        "what": "prompts",
        "of": len(prompts),
        "dropped": len(refused),
        "ids": refused,
        "reason": reason,
    }


def test_answers_and_slates_whose_prompt_is_refused_are_left_out_too_and_block_when_they_are_many(
    tmp_path: Path, models: dict[str, Path]
) -> None:
    model = model_with(templates.WITHOUT_SYSTEM, models["llama"], tmp_path / "model")
    stages = {stage: {"model": "base-1", "max_response": 32} for stage in ("sft", "reward")}
    rows = [FOX, *(FOX | {"id": n, "messages": TALK} for n in (8, 9))]
    slates = [SLATE, SLATE | {"slate_id": 2, "prompt_id": 5, "messages": TALK}]
    result = examine(tmp_path / "examination", {"base-1": model}, stages, demonstrations=rows, rankings=slates)
    found = {one["numbers"]["what"]: one for one in result["findings"] if one["kind"] == "refused"}
    assert found["demonstrations"]["level"] == "block"
    assert found["demonstrations"]["numbers"]["ids"] == ["8", "9"]
    assert (found["rankings"]["level"], found["rankings"]["numbers"]["ids"]) == ("warn", ["5"]), "the prompt is named"


def test_an_examination_that_is_refused_leaves_the_reason_as_data(tmp_path: Path, models: dict[str, Path]) -> None:
    (tmp_path / "examination/data").mkdir(parents=True)
    request = {"models": {"a": str(models["llama"])}, "stages": {"ppo": {"model": "a", "max_response": 8}}}
    (tmp_path / "examination/request.json").write_text(json.dumps(request))
    (tmp_path / "examination/data/prompts.jsonl").write_text("{\n")
    assert main(["examine", str(tmp_path / "examination")]) == 77
    ending = endings.read(tmp_path / "examination")
    assert (ending["kind"], ending["numbers"]) == ("records", {"file": "prompts.jsonl", "line": 1})
