"""Training settings by the API: all that the page shows, and the same rules for changing them."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from annotate.models import AuditEvent, Member, Project
from tests.factories import bearer
from training.models import TrainingSettings
from training.presets import TINY

BETA = TINY.values["ppo"]["beta"]

pytestmark = [pytest.mark.django_db, pytest.mark.database, pytest.mark.usefixtures("data_dir")]


@pytest.fixture
def training(project: Project) -> TrainingSettings:
    return TrainingSettings.objects.create(project=project)


def patch(client: Client, admin: Member, body: Any) -> Any:
    return client.patch(address(admin.project), body, content_type="application/json", headers=bearer(admin.user))


def address(project: Project) -> str:
    return f"/api/v1/projects/{project.slug}/training-settings/"


def field(answer: Any, stage: str, name: str) -> dict[str, Any]:
    (settings,) = (each["settings"] for each in answer.json()["stages"] if each["stage"] == stage)
    return next(each for each in settings if each["name"] == name)


def test_every_setting_has_its_value_preset_default_and_limits(
    client: Client, admin: Member, training: TrainingSettings
) -> None:
    answer = client.get(address(admin.project), headers=bearer(admin.user))
    beta = field(answer, "ppo", "beta")
    assert (beta["value"], beta["preset"], beta["default"], beta["at_least"]) == (BETA, BETA, 0.05, 0.0)
    assert field(answer, "sft", "dtype")["one_of"] == ["auto", "fp32", "bf16"]
    assert field(answer, "sft", "epochs")["kind"] == "integer"
    assert (answer.json()["preset"], answer.json()["suggested_preset"]) == ("tiny", "tiny")
    assert answer.json()["preset_by_hand"] is False
    assert answer.json()["preset_reason"] == "Chosen automatically for the built-in tiny model."


def test_a_change_names_what_it_changes_and_everything_else_stays(
    client: Client, admin: Member, training: TrainingSettings
) -> None:
    TrainingSettings.objects.update(overrides={"ppo": {"clip": 0.3}, "sft": {"epochs": 9}})
    answer = patch(client, admin, {"stages": {"ppo": {"beta": 0.2, "clip": None}}})
    assert answer.status_code == 200
    assert (field(answer, "ppo", "beta")["value"], field(answer, "ppo", "clip")["differs"]) == (0.2, False)
    assert TrainingSettings.objects.get().overrides == {"ppo": {"beta": 0.2}, "sft": {"epochs": 9}}
    event = AuditEvent.objects.get(project=admin.project)
    assert event.detail["fields"] == {"ppo.beta": [BETA, 0.2], "ppo.clip": [0.3, 0.2]}


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        (
            {"stages": {"ppo": {"beta": -1}, "dpo": {"x": 1}}},
            {"stages": {"ppo": {"beta": ["beta must be at least 0."]}, "dpo": {"x": ["Unknown setting."]}}},
        ),
        ({"preset": "7B"}, {"preset": ['"7B" is not a valid choice.']}),
        ({"settings": {}}, {"settings": ["Unknown field."]}),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(
    client: Client, admin: Member, training: TrainingSettings, body: Any, errors: Any
) -> None:
    answer = patch(client, admin, body)
    assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")
    assert answer.json()["errors"] == errors


def test_a_preset_and_the_values_over_it_are_taken_together_or_not_at_all(
    client: Client, admin: Member, training: TrainingSettings
) -> None:
    TrainingSettings.objects.update(base_model="of-unknown-size")
    answer = patch(client, admin, {"preset": "0.5B", "stages": {"ppo": {"minibatch_size": 33}}})
    assert answer.status_code == 400
    assert TrainingSettings.objects.get().preset == "tiny"
    assert patch(client, admin, {"preset": "0.5B", "stages": {"ppo": {"minibatch_size": 32}}}).status_code == 200
    assert TrainingSettings.objects.get().overrides == {"ppo": {"minibatch_size": 32}}


def test_a_value_that_is_not_the_one_that_was_seen_is_not_overwritten(
    client: Client, admin: Member, training: TrainingSettings
) -> None:
    TrainingSettings.objects.update(overrides={"ppo": {"beta": 0.4}})
    answer = patch(client, admin, {"stages": {"ppo": {"beta": 0.2}}, "seen": {"ppo": {"beta": BETA}}})
    assert (answer.status_code, answer.json()["now"]) == (409, {"ppo": {"beta": 0.4}})
    assert TrainingSettings.objects.get().overrides == {"ppo": {"beta": 0.4}}


def test_a_project_that_does_not_train_has_none(client: Client, admin: Member) -> None:
    assert client.get(address(admin.project), headers=bearer(admin.user)).status_code == 404
    assert patch(client, admin, {"stages": {}}).status_code == 404
