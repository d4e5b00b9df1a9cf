"""What the engine is told comes from its own defaults and the project's overrides, and is refused where it is wrong."""

from __future__ import annotations

import pytest

from annotate.models import Project
from tests.training import machine
from training.models import ModelVersion, Stage, TrainingSettings
from training.rlhf.config import STAGES, Parent, to_json
from training.rlhf.exits import InvalidInput
from training.services import configs

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]


@pytest.fixture
def model(project: Project) -> ModelVersion:
    return machine.make_model(project, "sft")


@pytest.mark.parametrize("stage", [stage for stage in Stage.values if stage != Stage.PRETRAINING])
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
