"""Every setting has its limits in the engine's config: the default keeps them, what lies outside is refused by name."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from training.rlhf.config import STAGES, RunConfig, check_value, load_config, parse
from training.rlhf.exits import InvalidInput

STATED_BY_THE_PLATFORM = {"seed", "parents"}
SETTINGS = [
    (stage, field)
    for stage in STAGES.values()
    for field in dataclasses.fields(stage)
    if field.name not in STATED_BY_THE_PLATFORM
]


def config(stage: str, **fields: Any) -> RunConfig:
    parents = {role: {"path": "", "manifest_sha256": ""} for role in STAGES[stage].required_parents}
    return parse({"schema": 1, "stage": stage, "seed": 0, "parents": parents} | fields)


@pytest.mark.parametrize(("stage", "field"), SETTINGS, ids=[f"{stage.stage}-{each.name}" for stage, each in SETTINGS])
def test_a_default_keeps_its_limits_and_no_setting_takes_any_number(
    stage: type[RunConfig], field: dataclasses.Field[Any]
) -> None:
    check_value(stage, field.name, field.default)
    for wrong in ("thirty", -1, 10**400, None, True, [], float("nan"), float("inf")):
        with pytest.raises(InvalidInput) as refused:
            check_value(stage, field.name, wrong)
        assert refused.value.field == field.name


@pytest.mark.parametrize(
    ("stage", "fields", "sentence"),
    [
        ("sft", {"epochs": 0}, "epochs must be between 1 and 1,000"),
        ("sft", {"learning_rate": 0}, "learning_rate must be above 0"),
        ("sft", {"dtype": "fp16"}, "dtype must be one of auto, fp32, bf16"),
        ("pretraining", {"warmup": 1}, "warmup must be at least 0 and below 1"),
        ("sampling", {"k": 10}, "k must be between 2 and 9"),
        ("ppo", {"rollout_size": 65}, "rollout_size must be a multiple of minibatch_size"),
        ("ppo", {"learning_rate": float("inf")}, "learning_rate must be at least 0"),
        ("ppo", {"patience": 3}, "unknown field 'patience'"),
    ],
)
def test_what_a_stage_cannot_do_is_refused_with_the_limit(stage: str, fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        config(stage, **fields)
    assert str(refused.value) == sentence


def test_the_ends_of_a_range_belong_to_it() -> None:
    assert [config("sampling", k=k).k for k in (2, 9)] == [2, 9]  # type: ignore[attr-defined]
    assert config("ppo", learning_rate=0).learning_rate == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("raw", [None, 5, True, "sft", [], [["stage", "sft"]]])
def test_a_file_that_holds_no_object_is_refused(tmp_path: Path, raw: object) -> None:
    (tmp_path / "config.json").write_text(json.dumps(raw))
    with pytest.raises(InvalidInput, match=r"^config\.json does not contain a JSON object$") as refused:
        load_config(tmp_path / "config.json")
    assert refused.value.kind == "settings_unreadable"


@pytest.mark.parametrize("stage", [None, 1, [], ["sft"], {"sft": 1}])
def test_a_stage_that_is_no_name_is_refused(stage: object) -> None:
    with pytest.raises(InvalidInput, match=r"^stage must be one of pretraining, sft, ") as refused:
        parse({"schema": 1, "stage": stage})
    assert (refused.value.kind, refused.value.field) == ("config", "stage")
