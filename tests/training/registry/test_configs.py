"""The engine's config comes from its own defaults and the project's overrides, and is refused where it is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from annotate.models import Project
from tests.training import machine
from training.forms.configs import ConfigForm
from training.models import ModelVersion, TrainingSettings
from training.rlhf.config import STAGES, Parent, to_json
from training.rlhf.exits import InvalidInput
from training.services.registry import configs
from training.stages import Stage

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]


@pytest.fixture
def model(project: Project) -> ModelVersion:
    return machine.make_model(project, "sft")


@pytest.mark.parametrize("stage", [stage for stage in list(Stage) if stage != Stage.PRETRAINING])
def test_the_settings_of_the_built_in_model_suit_every_stage(project: Project, model: ModelVersion, stage: str) -> None:
    training = TrainingSettings.objects.create(project=project, seed=4)
    parents = dict.fromkeys(STAGES[stage].required_parents, model)
    config = configs.make(training, stage, round_number=2, parents=parents)
    assert config.seed == 4002
    assert to_json(config)["max_response"] == 64


def test_people_rank_as_many_answers_as_the_project_says(project: Project, model: ModelVersion) -> None:
    training = machine.make_settings(project, completions_per_slate=7)
    config = configs.make(training, Stage.SAMPLING, round_number=1, parents={"policy": model})
    assert to_json(config)["k"] == 7


def test_parents_are_named_so_that_the_data_directory_can_move(project: Project, model: ModelVersion) -> None:
    training = machine.make_settings(project)
    config = configs.make(training, Stage.SAMPLING, round_number=1, parents={"policy": model})
    assert config.parents["policy"] == Parent(path=f"../../models/{model.uuid}", manifest_sha256=model.manifest_sha256)


def test_a_field_that_no_stage_knows_is_refused_by_name(project: Project, model: ModelVersion) -> None:
    training = machine.make_settings(project, overrides={"sampling": {"warmth": 2}})
    with pytest.raises(InvalidInput, match="'warmth'"):
        configs.make(training, Stage.SAMPLING, round_number=1, parents={"policy": model})


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"epochs": 0}, "epochs", "epochs must be between 1 and 1,000"),
        ({"dtype": "fp16"}, "dtype", "Select a valid choice"),
        ({"batch_tokens": 0}, "batch_tokens", "batch_tokens must be between 1 and 10,000,000"),
    ],
)
def test_a_form_shows_a_refusal_beside_the_field_that_the_engine_names(
    project: Project, model: ModelVersion, change: dict[str, Any], field: str, said: str
) -> None:
    training = machine.make_settings(project)
    saved = to_json(configs.make(training, Stage.SFT, round_number=1, parents={"base": model}))
    form = ConfigForm(saved | change, saved=saved)
    assert list(form.errors) == [field]
    assert said in form.errors[field][0]


def test_a_refusal_of_what_no_field_shows_stands_above_the_form(project: Project, model: ModelVersion) -> None:
    training = machine.make_settings(project)
    saved = to_json(configs.make(training, Stage.SFT, round_number=1, parents={"base": model})) | {"parents": {}}
    assert list(ConfigForm(saved, saved=saved).errors) == ["__all__"]
