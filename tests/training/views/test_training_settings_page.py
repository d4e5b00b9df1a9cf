"""The page of training settings, and the ways to it: plan of a round, the pre-flight, the card of a failure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import AuditEvent, Member, Project
from tests.training import engine_files, machine
from training.models import ModelVersion, Round, Run, TrainingSettings, Worker
from training.services.machines import workers
from training.services.planning import plans
from training.stages import Stage

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]


@pytest.fixture
def page(client: Client, admin: Member) -> Client:
    """The browser of a project admin."""
    client.force_login(admin.user)
    return client


@pytest.fixture
def training(project: Project) -> TrainingSettings:
    return TrainingSettings.objects.create(project=project)


def address(project: Project, name: str = "settings", *args: object) -> str:
    return reverse(f"training:{name}", args=[project.slug, *args])


def shown_form(page: Client, project: Project) -> dict[str, Any]:
    """What a browser sends that has the page open and changes nothing."""
    form = page.get(address(project)).context["form"]
    return {name: form[name].value() for name in form.fields}


def stored() -> dict[str, Any]:
    return dict(TrainingSettings.objects.get().overrides)


def test_every_setting_stands_on_the_page_with_its_limits_and_its_default(
    page: Client, training: TrainingSettings
) -> None:
    shown = page.get(address(training.project)).content.decode()
    for stage in ("sft", "reward", "watcher", "ppo", "evaluation", "sampling"):
        assert f'id="{stage}-batch_tokens"' in shown
    (row,) = (part for part in shown.split("data-setting>") if 'for="id_ppo-beta"' in part)
    for words in ("KL coefficient (beta)", "Reward subtracted per nat", "σ per nat", "0 or more"):
        assert words in row
    assert "default 0.05" in row
    assert "1 to 10,000,000" in shown


def test_only_what_was_changed_is_saved_and_an_empty_field_takes_the_presets_value(
    page: Client, training: TrainingSettings
) -> None:
    TrainingSettings.objects.update(overrides={"ppo": {"beta": 0.2, "clip": 0.3}})
    form = shown_form(page, training.project)
    answer = page.post(address(training.project), form | {"ppo-beta": "", "sft-learning_rate": "1e-4"}, follow=True)
    assert "Saved 2 changes." in answer.content.decode()
    assert stored() == {"ppo": {"clip": 0.3}, "sft": {"learning_rate": 1e-4}}
    again = page.post(address(training.project), shown_form(page, training.project), follow=True)
    assert "No changes." in again.content.decode()
    assert AuditEvent.objects.filter(action="training_settings.changed").count() == 1


def test_without_scripts_the_button_puts_the_presets_value_back(page: Client, training: TrainingSettings) -> None:
    TrainingSettings.objects.update(overrides={"ppo": {"beta": 0.2}})
    page.post(address(training.project), shown_form(page, training.project) | {"reset": "ppo-beta"})
    assert stored() == {}


def test_what_is_refused_stands_beside_its_field_with_what_was_typed(page: Client, training: TrainingSettings) -> None:
    wrong = {"ppo-minibatch_size": "33", "sft-epochs": "5"}
    answer = page.post(address(training.project), shown_form(page, training.project) | wrong)
    shown = answer.content.decode()
    assert answer.status_code == 422
    assert answer.context["form"]["ppo-rollout_size"].errors == ["rollout_size must be a multiple of minibatch_size."]
    assert '<a href="#ppo-rollout_size">' in shown
    assert 'value="33"' in shown
    assert stored() == {}
    answer = page.post(address(training.project), shown_form(page, training.project) | {"ppo-clip": "much"})
    assert answer.status_code == 422
    assert '<details id="more-ppo" open>' in answer.content.decode(), "a folded error would not be seen"


def test_a_value_that_somebody_else_has_changed_meanwhile_is_shown_before_it_is_overwritten(
    page: Client, training: TrainingSettings
) -> None:
    form = shown_form(page, training.project)
    TrainingSettings.objects.update(overrides={"ppo": {"beta": 0.4}, "sft": {"epochs": 9}})
    answer = page.post(address(training.project), form | {"ppo-beta": "0.2"})
    assert answer.status_code == 409
    shown = answer.context["form"]
    assert "Someone else has set this to 0.4 in the meantime" in shown["ppo-beta"].errors[0]
    assert (shown["ppo-beta"].value(), shown["sft-epochs"].value()) == ("0.2", "9")
    page.post(address(training.project), {name: shown[name].value() for name in shown.fields})
    assert stored() == {"ppo": {"beta": 0.2}, "sft": {"epochs": 9}}


@pytest.mark.parametrize("before", ["", "{", "[]", "[" * 100_000, json.dumps({"ppo-beta": []})])
def test_a_form_that_was_tampered_with_breaks_nothing(page: Client, training: TrainingSettings, before: str) -> None:
    answer = page.post(address(training.project), shown_form(page, training.project) | {"before": before})
    assert answer.status_code in (302, 409, 422)
    assert stored() == {}


def test_the_page_says_what_a_change_reaches_while_a_round_is_running(page: Client, training: TrainingSettings) -> None:
    project = training.project
    planned = [plans.StagePlan(stage=stage) for stage in ("sft", "reward", "sampling")]
    plan = plans.Plan(number=3, obstacle="", stages=planned).to_json()
    round = Round.objects.create(project=project, number=3, status=Round.Status.RUNNING, plan=plan)
    machine.queue_run(project, Stage.SFT, round=round)
    shown = page.get(address(project)).content.decode()
    assert "Round 3 is running." in shown
    assert "These stages keep the values they started with: SFT." in shown
    assert "These will use the values you save now: reward model, sampling." in shown


def test_a_preset_is_chosen_and_its_sources_stand_beside_it(page: Client, base: ModelVersion, project: Project) -> None:
    shown = page.get(address(project)).content.decode()
    assert "InstructGPT" in shown
    assert "not benchmarked" in shown
    page.post(address(project, "settings-preset"), {"preset": "3B", "seen": "1.5B"})
    assert TrainingSettings.objects.get().preset == "3B"
    answer = page.post(address(project, "settings-preset"), {"preset": "0.5B", "seen": "1.5B"}, follow=True)
    assert "Someone else has chosen another preset in the meantime." in answer.content.decode()
    assert TrainingSettings.objects.get().preset == "3B"


def test_the_page_says_why_the_project_has_its_preset_and_unfolds_the_others_where_one_suits_better(
    page: Client, base: ModelVersion, project: Project
) -> None:
    shown = page.get(address(project)).content.decode()
    assert "Chosen automatically for “random” (1.1 billion parameters)." in shown
    assert '<details id="presets" >' in shown
    page.post(address(project, "settings-preset"), {"preset": "3B", "seen": "1.5B"})
    shown = page.get(address(project)).content.decode()
    assert "Chosen by hand. Recommended for “random” (1.1 billion parameters): 1.5B." in shown
    assert '<details id="presets" open>' in shown


def test_the_projects_settings_say_which_preset_its_base_model_has_brought(
    page: Client, base: ModelVersion, project: Project
) -> None:
    shown = page.get(reverse("annotate:settings", args=[project.slug])).content.decode()
    (said,) = (part.split("</p>")[0] for part in shown.split('<p id="base-model-preset">')[1:])
    assert said.startswith("Preset: 1.5B. Chosen automatically for “random” (1.1 billion parameters).")
    assert f'href="{address(project)}"' in said


def test_a_preset_that_does_not_fit_says_why(page: Client, training: TrainingSettings) -> None:
    answer = page.post(address(training.project, "settings-preset"), {"preset": "0.5B", "seen": "tiny"}, follow=True)
    why = "Maximum answer length (SFT), maximum answer length (reward model)"
    assert f"“0.5B” cannot be used here. {why}" in answer.content.decode()
    assert TrainingSettings.objects.get().preset == "tiny"


def test_a_project_without_settings_says_where_to_begin(page: Client, project: Project) -> None:
    shown = page.get(address(project)).content.decode()
    assert "Training is not set up yet" in shown
    assert page.post(address(project), {}).status_code == 200


def test_the_plan_lists_what_differs_from_the_preset_with_a_link_to_it(
    page: Client, project: Project, base: ModelVersion, annotator: Member
) -> None:
    machine.write_demonstrations(annotator, 3)
    shown = page.get(address(project, "rounds")).content.decode()
    sft = shown.split('id="stage-sft"')[1].split("</li>")[0]
    assert f'href="{address(project)}#sft-epochs">epochs 2</a>' in sft
    assert "sft-max_response" in sft
    assert "sft-checkpoint_seconds" in sft
    reward = shown.split('id="stage-reward"')[1].split("</li>")[0]
    assert "Differs from the preset" not in reward, "it is left out"


def test_the_preflight_leads_to_the_setting_that_is_refused_or_that_memory_asks_for(
    page: Client, project: Project, base: ModelVersion, annotator: Member
) -> None:
    machine.write_demonstrations(annotator, 3)
    TrainingSettings.objects.update(preset="defaults")  # with which the first stage takes as much as any
    workers.beat("gpu@here", queue="gpu", host="here", device="2 CPU cores", pid=1, memory=1 << 20)
    shown = page.get(address(project, "rounds")).content.decode()
    assert "Memory may not be enough" in shown
    assert f'href="{address(project)}#sft-batch_tokens">Batch tokens (SFT)</a>' in shown
    Worker.objects.all().delete()
    TrainingSettings.objects.update(overrides={"sft": {"epochs": 0}})
    shown = page.get(address(project, "rounds")).content.decode()
    assert "A stage has settings that are not valid: epochs must be between 1 and 1,000." in shown
    assert f'href="{address(project)}#sft-epochs">Epochs (SFT)</a>' in shown
    TrainingSettings.objects.update(overrides={"sft": {"epoch": 3}})
    shown = page.get(address(project, "rounds")).content.decode()
    assert f'href="{address(project)}">Training settings</a>' in shown
    assert "“epoch” (3) is stored but is not a setting of this stage." in page.get(address(project)).content.decode()


@pytest.mark.parametrize(
    ("stage", "ending", "anchors"),
    [
        (Stage.SFT, {"kind": "memory", "field": "batch_tokens"}, ["sft-batch_tokens"]),
        (Stage.PPO, {"kind": "not_finite"}, ["ppo-learning_rate", "ppo-value_learning_rate"]),
        (Stage.SAMPLING, {"kind": "left_out"}, ["sampling-max_response"]),
        (Stage.REWARD, {"kind": "config", "field": "epochs"}, ["reward-epochs"]),
        (Stage.SFT, {"kind": "disk"}, []),
    ],
)
def test_the_card_of_a_failure_leads_to_the_settings_that_decide(
    page: Client, training: TrainingSettings, stage: str, ending: dict[str, Any], anchors: list[str]
) -> None:
    project = training.project
    run = engine_files.make_run(project, stage, status=Run.Status.FAILED, exit_code=77, ending=ending)
    shown = page.get(address(project, "run", run.pk)).content.decode()
    for anchor in anchors:
        assert f'href="{address(project)}#{anchor}"' in shown
        assert f'id="{anchor}"' in page.get(address(project)).content.decode()
    assert ("For later runs, change the training settings:" in shown) == bool(anchors)


def test_a_ppo_run_that_stopped_at_its_limit_leads_to_it(page: Client, training: TrainingSettings) -> None:
    run = engine_files.make_run(training.project, status=Run.Status.SUCCEEDED, fence=1)
    engine_files.write_metrics(run, [{"rollout/kl": 1.0}, {"rollout/kl": 4.5}])
    shown = page.get(address(training.project, "run", run.pk)).content.decode()
    assert "PPO stopped at its KL limit" in shown
    assert f'href="{address(training.project)}#ppo-kl_limit">KL limit (PPO)</a>' in shown


def test_the_page_asks_the_database_no_more_for_many_own_values(
    page: Client, training: TrainingSettings, django_assert_max_num_queries: Any
) -> None:
    page.get(address(training.project))
    TrainingSettings.objects.update(overrides={"ppo": {"beta": 0.2, "clip": 0.3}, "sft": {"epochs": 9}})
    with django_assert_max_num_queries(20):
        page.get(address(training.project))


def test_the_projects_own_settings_lead_to_the_page(page: Client, training: TrainingSettings, tmp_path: Path) -> None:
    shown = page.get(reverse("annotate:settings", args=[training.project.slug])).content.decode()
    assert f'href="{address(training.project)}"' in shown
