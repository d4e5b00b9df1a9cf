"""What each stage trains with: the engine's defaults, over them the preset, over that the project's own values."""

from __future__ import annotations

import dataclasses
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from pytest_django import Settings

from annotate.models import AuditEvent, Member, Project, User
from tests.factories import make_user
from tests.training import machine
from training.forms.settings import TrainingSettingsForm
from training.models import Adoption, ModelVersion, Run, TrainingSettings
from training.presets import TINY
from training.rlhf.config import STAGES, to_json
from training.services.registry import base_models, configs, settings_changes, training_settings
from training.services.registry.settings_changes import Changed, PresetChanged, Refused
from training.services.registry.training_settings import Setting
from training.services.run_files import config_fields
from training.services.running import rounds
from training.stages import Stage

PPO = TINY.values["ppo"]

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir"), pytest.mark.database]


@pytest.fixture
def training(project: Project) -> TrainingSettings:
    return TrainingSettings.objects.create(project=project)


@pytest.fixture
def actor(db: None) -> User:
    return make_user()


def change(training: TrainingSettings, values: dict[str, dict[str, Any]], **options: Any) -> list[str]:
    changed = settings_changes.change(training.project, values=values, **options)
    training.refresh_from_db()
    return changed


def choose(training: TrainingSettings, name: str, **options: Any) -> None:
    """Take another preset, in a project whose base model may be of any size."""
    TrainingSettings.objects.update(base_model="of-unknown-size")
    settings_changes.choose_preset(training.project, name=name, **options)
    training.refresh_from_db()


def setting(training: TrainingSettings, stage: str, name: str) -> Setting:
    (settings,) = (each.settings for each in training_settings.build(training) if each.stage.name == stage)
    return next(each for each in settings if each.name == name)


def test_a_value_comes_from_the_engine_the_preset_and_the_project_in_this_order(
    training: TrainingSettings, actor: User
) -> None:
    clip, beta = setting(training, "ppo", "clip"), setting(training, "ppo", "beta")
    assert (clip.value, clip.preset_value, clip.default) == (0.2, 0.2, 0.2)
    assert (beta.value, beta.preset_value, beta.default) == (PPO["beta"], PPO["beta"], 0.05)
    change(training, {"ppo": {"beta": 0.2}}, actor=actor)
    beta = setting(training, "ppo", "beta")
    assert (beta.value, beta.preset_value, beta.differs) == (0.2, PPO["beta"], True)
    assert to_json(configs.check(training, "ppo"))["beta"] == 0.2


def test_the_size_and_the_context_of_an_adopted_base_model_are_those_of_its_examination(
    project: Project, base: ModelVersion
) -> None:
    training = TrainingSettings.objects.get()
    assert training_settings.suggest(training).name == "1.5B"
    assert training_settings.context_of(training) == machine.REPORT["context"]
    shutil.rmtree(base.directory)
    ModelVersion.objects.all().delete()
    assert training_settings.suggest(training).name == "1.5B", "before it is taken over, the folder's report says it"


def test_what_is_as_in_the_preset_is_not_kept_and_follows_it(training: TrainingSettings, actor: User) -> None:
    assert change(training, {"ppo": {"beta": PPO["beta"], "clip": 0.3}}, actor=actor) == ["ppo.clip"]
    assert training.overrides == {"ppo": {"clip": 0.3}}
    assert change(training, {"ppo": {"clip": None}}, actor=actor) == ["ppo.clip"]
    assert training.overrides == {}
    choose(training, "0.5B", actor=actor)
    assert setting(training, "ppo", "beta").value == 0.05


def test_a_change_is_audited_with_the_value_before_and_after_it(training: TrainingSettings, actor: User) -> None:
    change(training, {"ppo": {"beta": 0.2}, "sft": {"epochs": 5}}, actor=actor)
    change(training, {"ppo": {"beta": 0.2}}, actor=actor)  # which changes nothing
    choose(training, "1.5B", actor=actor)
    events = AuditEvent.objects.filter(action="training_settings.changed").order_by("pk")
    assert [event.detail["fields"] for event in events] == [
        {"ppo.beta": [PPO["beta"], 0.2], "sft.epochs": [4, 5]},
        {"preset": ["tiny", "1.5B"]},
    ]
    assert {event.actor for event in events} == {actor}


@pytest.mark.parametrize(
    ("values", "stage", "name", "said"),
    [
        ({"sft": {"epochs": 0}}, "sft", "epochs", "epochs must be between 1 and 1,000."),
        ({"sft": {"epochs": "many"}}, "sft", "epochs", "epochs cannot be 'many'."),
        ({"ppo": {"minibatch_size": 33}}, "ppo", "rollout_size", "rollout_size must be a multiple of minibatch_size."),
        ({"sft": {"max_response": 128}}, "sft", "max_response", "It must leave room for a prompt"),
        ({"sft": {"epoch": 3}}, "sft", "epoch", "Unknown setting."),
        ({"sft": {"seed": 3}}, "sft", "seed", "Unknown setting."),
        ({"sampling": {"k": 3}}, "sampling", "k", "Unknown setting."),
        ({"dpo": {"beta": 3}}, "dpo", "beta", "Unknown setting."),
    ],
)
def test_what_cannot_be_is_refused_by_the_name_of_its_field_and_nothing_is_stored(
    training: TrainingSettings, actor: User, values: dict[str, dict[str, Any]], stage: str, name: str, said: str
) -> None:
    with pytest.raises(Refused) as refused:
        change(training, {"reward": {"epochs": 2}} | values, actor=actor)
    assert list(refused.value.errors) == [stage]
    assert refused.value.errors[stage][name][0].startswith(said)
    training.refresh_from_db()
    assert training.overrides == {}
    assert not AuditEvent.objects.exists()


def test_every_wrong_field_is_named_at_once(training: TrainingSettings, actor: User) -> None:
    with pytest.raises(Refused) as refused:
        change(training, {"sft": {"epochs": 0, "batch_size": -1}, "ppo": {"beta": -1}}, actor=actor)
    assert {stage: set(fields) for stage, fields in refused.value.errors.items()} == {
        "sft": {"epochs", "batch_size"},
        "ppo": {"beta"},
    }


def test_a_preset_with_which_own_values_do_not_hold_together_is_refused(
    training: TrainingSettings, actor: User
) -> None:
    change(training, {"ppo": {"minibatch_size": 1, "rollout_size": 96}}, actor=actor)
    change(training, {"ppo": {"minibatch_size": None}}, actor=actor)
    with pytest.raises(Refused) as refused:
        choose(training, "0.5B", actor=actor)
    assert refused.value.errors == {"ppo": {"rollout_size": ["rollout_size must be a multiple of minibatch_size."]}}
    assert refused.value.words.startswith("Rollout size (PPO): rollout_size must be")


def test_a_preset_for_larger_models_leaves_the_tiny_one_no_room_for_prompts(
    training: TrainingSettings, actor: User
) -> None:
    with pytest.raises(Refused, match="must leave room for a prompt: the base model's context is 128 tokens"):
        settings_changes.choose_preset(training.project, name="0.5B", actor=actor)


def test_what_is_stored_and_no_setting_can_be_taken_out(training: TrainingSettings, actor: User) -> None:
    training.overrides = {"sft": {"epoch": 3, "epochs": 5}}
    training.save()
    assert training_settings.build(training)[0].unknown == {"epoch": 3}
    assert change(training, {"sft": {"epoch": None}}, actor=actor) == ["sft.epoch"]
    assert training.overrides == {"sft": {"epochs": 5}}


def test_of_two_admins_neither_undoes_what_the_other_has_changed(training: TrainingSettings, actor: User) -> None:
    seen = {"ppo": {"beta": PPO["beta"]}}
    change(training, {"sft": {"epochs": 9}}, seen={"sft": {"epochs": 4}}, actor=actor)
    change(training, {"ppo": {"beta": 0.2}}, seen=seen, actor=actor)
    assert training.overrides == {"sft": {"epochs": 9}, "ppo": {"beta": 0.2}}
    with pytest.raises(Changed) as conflict:
        change(training, {"ppo": {"beta": 0.3}, "reward": {"epochs": 1}}, seen=seen, actor=actor)
    assert conflict.value.now == {"ppo": {"beta": 0.2}}
    training.refresh_from_db()
    assert training.overrides == {"sft": {"epochs": 9}, "ppo": {"beta": 0.2}}
    assert change(training, {"ppo": {"beta": 0.2}}, seen=seen, actor=actor) == [], "both wanted the same"


def test_nobody_replaces_a_preset_that_they_have_not_seen(training: TrainingSettings, actor: User) -> None:
    choose(training, "0.5B", seen="tiny", actor=actor)
    with pytest.raises(PresetChanged):
        choose(training, "1.5B", seen="tiny", actor=actor)


@pytest.mark.django_db(transaction=True)
def test_changes_at_the_same_moment_are_all_kept(training: TrainingSettings, actor: User) -> None:
    values: list[dict[str, dict[str, Any]]] = [
        {"sft": {"epochs": 9}},
        {"ppo": {"beta": 0.2}},
        {"reward": {"epochs": 2}},
    ]
    barrier = Barrier(len(values))

    def save(one: dict[str, dict[str, Any]]) -> None:
        try:
            barrier.wait(timeout=30)
            settings_changes.change(training.project, values=one, actor=actor)
        finally:
            connection.close()

    with ThreadPoolExecutor(len(values)) as pool:
        list(pool.map(save, values))
    training.refresh_from_db()
    assert training.overrides == {"sft": {"epochs": 9}, "ppo": {"beta": 0.2}, "reward": {"epochs": 2}}


def test_a_change_during_a_round_holds_for_the_stages_that_come_later(
    project: Project, base: ModelVersion, annotator: Member, actor: User
) -> None:
    machine.write_demonstrations(annotator, 3)
    round = rounds.open(project, opened_by=None)
    sft = round.runs.get()
    written = (sft.directory / "config.json").read_text()
    training = TrainingSettings.objects.get()
    change(training, {"sft": {"epochs": 7}, "sampling": {"max_response": 12}}, actor=actor)
    assert (sft.directory / "config.json").read_text() == written
    Run.objects.update(status=Run.Status.SUCCEEDED)
    machine.make_model(project, "sft", run=sft, parent=base)
    rounds.advance(round)
    sampling = round.runs.get(stage=Stage.SAMPLING)
    assert '"max_response": 12' in (sampling.directory / "config.json").read_text()


def test_the_shipped_base_model_has_no_settings_of_its_pretraining(training: TrainingSettings, actor: User) -> None:
    assert Stage.PRETRAINING not in {each.stage.name for each in training_settings.build(training)}
    with pytest.raises(Refused, match="Unknown setting"):
        change(training, {"pretraining": {"tokens": 5000}}, actor=actor)


@pytest.fixture
def folder(built_base: Path, settings: Settings, data_dir: Path) -> str:
    """A folder of BASE_MODELS_DIR with a model of half a billion parameters, as its examination says."""
    settings.BASE_MODELS_DIR = data_dir / "base-models"
    shutil.copytree(built_base, settings.BASE_MODELS_DIR / machine.BASE)
    machine.adopt(machine.BASE, parameters=494_000_000)
    return machine.BASE


def choose_base(project: Project, folder: str) -> None:
    """What an admin does in the project's settings."""
    fields = {"completions_per_slate": 4, "slates_per_round": 9, "demonstrations_minimum": 9, "rankings_minimum": 9}
    data = {f"training-{name}": value for name, value in fields.items()} | {"training-ppo_start": "sft"}
    form = TrainingSettingsForm(data | {"training-base_model": folder}, project=project)
    assert form.is_valid()
    form.save()


def test_a_base_model_brings_the_preset_of_its_size_and_the_audit_says_so(project: Project, folder: str) -> None:
    choose_base(project, folder)
    training = TrainingSettings.objects.get()
    assert training.preset == "0.5B"
    event = AuditEvent.objects.get(action="training_settings.preset_chosen")
    assert (event.project, event.actor) == (project, None)
    assert event.detail == {"preset": ["tiny", "0.5B"], "base_model": folder, "parameters": 494_000_000}
    assert training_settings.preset_reason(training) == "Chosen automatically for “random” (494 million parameters)."
    base_models.register(project)
    assert AuditEvent.objects.filter(action="training_settings.preset_chosen").count() == 1


def test_the_built_in_model_keeps_the_tiny_preset_and_nothing_is_written_down(project: Project, data_dir: Path) -> None:
    choose_base(project, TrainingSettings.TINY)
    training = TrainingSettings.objects.get()
    assert training.preset == "tiny"
    assert training_settings.preset_reason(training) == "Chosen automatically for the built-in tiny model."
    assert not AuditEvent.objects.filter(action="training_settings.preset_chosen").exists()


def test_a_preset_chosen_by_hand_stays_and_the_one_that_suits_is_offered(
    training: TrainingSettings, actor: User, folder: str
) -> None:
    choose(training, "1.5B", actor=actor)
    choose_base(training.project, folder)
    training.refresh_from_db()
    assert training.preset == "1.5B"
    reason = training_settings.preset_reason(training)
    assert reason == "Chosen by hand. Recommended for “random” (494 million parameters): 0.5B."
    for suits in ("0.5B", "0.5B-lora"):
        choose(training, suits, actor=actor)
        training.base_model = folder
        assert training_settings.preset_reason(training) == "Chosen by hand."


def test_own_values_say_nothing_about_the_preset_and_stay_over_the_one_that_comes(
    training: TrainingSettings, actor: User, folder: str
) -> None:
    change(training, {"ppo": {"beta": 0.2}}, actor=actor)
    choose_base(training.project, folder)
    training.refresh_from_db()
    assert (training.preset, training.overrides) == ("0.5B", {"ppo": {"beta": 0.2}})


def test_the_preset_comes_when_the_base_model_is_taken_over_not_before_its_size_is_known(
    project: Project, folder: str, actor: User
) -> None:
    Adoption.objects.all().delete()
    training = TrainingSettings.objects.create(project=project, base_model=folder)
    assert training_settings.preset_reason(training) == "The size of “random” is not known."
    with pytest.raises(base_models.NotAdopted):
        base_models.register(project)
    training.refresh_from_db()
    assert training.preset == "tiny"
    machine.adopt(folder, parameters=3_090_000_000)
    base_models.register(project)
    training.refresh_from_db()
    assert training.preset == "3B"


def test_a_project_that_has_its_base_model_keeps_its_preset(project: Project, base: ModelVersion) -> None:
    TrainingSettings.objects.update(preset="defaults")
    base_models.register(project)
    training = TrainingSettings.objects.get()
    assert training.preset == "defaults"
    reason = training_settings.preset_reason(training)
    assert reason == "Recommended for “random” (1.1 billion parameters): 1.5B."


def test_every_unit_has_words_and_every_link_leads_to_a_setting() -> None:
    units = {field.metadata.get("unit", "") for stage in STAGES.values() for field in dataclasses.fields(stage)}
    assert units == config_fields.UNITS.keys()
    assert [link.anchor for link in config_fields.links("sft", ["batch_tokens", "clip", "seed"])] == [
        "sft-batch_tokens"
    ]


def migrate(target: Any) -> Any:
    """Goes to a migration; returns the models as they were there."""
    executor = MigrationExecutor(connection)
    executor.migrate(target)
    return MigrationExecutor(connection).loader.project_state(target).apps


@pytest.mark.django_db(transaction=True)
def test_no_project_trains_with_other_values_after_the_upgrade() -> None:
    old = migrate([("training", "0005_stages_from_the_registry")])
    try:
        for name in ("tiny", "our-model-7b"):
            project = old.get_model("annotate", "Project").objects.create(name=name, slug=name, heldout_share=0)
            old.get_model("training", "TrainingSettings").objects.create(project=project, base_model=name)
    finally:
        migrate(MigrationExecutor(connection).loader.graph.leaf_nodes())
    tiny, adopted = TrainingSettings.objects.order_by("pk")
    assert (tiny.preset, adopted.preset) == ("tiny", "defaults")
    assert to_json(configs.check(tiny, "ppo"))["learning_rate"] == PPO["learning_rate"]
    config = to_json(configs.check(adopted, "ppo"))
    engine = {field.name: field.default for field in dataclasses.fields(STAGES["ppo"])}
    own = {"parents", "seed", "threads"}
    assert {name: config[name] for name in engine if name not in own} == {
        name: value for name, value in engine.items() if name not in own
    }


@pytest.mark.django_db(transaction=True)
def test_numbers_from_before_there_was_a_limit_are_brought_into_it() -> None:
    old = migrate([("training", "0016_worker_processes")])
    try:
        project = old.get_model("annotate", "Project").objects.create(name="Old", slug="old", heldout_share=0)
        numbers = {"demonstrations_minimum": 0, "rankings_minimum": 2_000_000_000, "slates_per_round": 200}
        old.get_model("training", "TrainingSettings").objects.create(project=project, **numbers)
    finally:
        migrate(MigrationExecutor(connection).loader.graph.leaf_nodes())
    stored = TrainingSettings.objects.get()
    assert (stored.demonstrations_minimum, stored.rankings_minimum, stored.slates_per_round) == (1, 100_000, 200)


def test_the_plan_of_the_next_round_knows_what_differs(training: TrainingSettings, actor: User) -> None:
    change(training, {"ppo": {"beta": 0.2}}, actor=actor)
    found = {
        stage: [each.name for each in settings] for stage, settings in training_settings.differing(training).items()
    }
    assert found.pop("ppo") == ["beta"]
    assert not any(found.values())
