"""What a round would do, and what it says about what it leaves out."""

from __future__ import annotations

import pytest

from annotate import hooks
from annotate.models import Member, Project
from tests.factories import make_member, make_project
from tests.training import machine
from training.models import ModelVersion, Promotion, Round, TrainingSettings
from training.services.labels import trainable_labels
from training.services.planning import plans
from training.services.planning.plans import Plan
from training.services.running import rounds
from training.stages import Stage
from training.stages.planning import LabelCounts
from training.stages.sampling import slate_budget

pytestmark = [pytest.mark.django_db, pytest.mark.database]


@pytest.fixture
def models(project: Project) -> dict[str, ModelVersion]:
    """A base model and what an earlier round made of it, without any weights."""
    machine.make_settings(project)
    snapshot = machine.make_snapshot(project)
    base = machine.make_model(project, "base")
    sft = machine.make_model(project, "sft", parent=base, snapshot=snapshot)
    reward = machine.make_model(project, "reward", parent=sft, snapshot=snapshot)
    ppo = machine.make_model(project, "ppo", parent=sft, reference=sft, reward=reward, snapshot=snapshot)
    Round.objects.create(project=project, number=1, plan={}, status=Round.Status.SUCCEEDED, snapshot=snapshot)
    return {"base": base, "sft": sft, "reward": reward, "ppo": ppo}


def running(plan: Plan) -> list[str]:
    return [stage.stage for stage in plan.stages if stage.will_run]


def parents(plan: Plan, stage: str) -> dict[str, str]:
    return {role: parent.name for role, parent in plan.stage(stage).parents.items()}


def test_the_first_round_imitates_people_and_asks_for_rankings(project: Project, annotator: Member) -> None:
    machine.make_settings(project)
    machine.make_model(project, "base")
    machine.write_demonstrations(annotator, 2)
    plan = plans.draft(project)
    assert (plan.number, plan.obstacle) == (1, "")
    assert running(plan) == [Stage.SFT, Stage.SAMPLING]
    assert plan.stage(Stage.REWARD).reason == "No rankings yet."
    assert plan.stage(Stage.EVALUATION).reason == "There are no held-out prompts."
    assert parents(plan, Stage.SAMPLING) == {"policy": "sft-1", "parent": "base-1"}
    assert plan.stage(Stage.SFT).counts == {"demonstrations": 2, "new_demonstrations": 2}


def test_enough_new_rankings_train_a_reward_model_and_a_policy_from_the_newest_sft(
    project: Project, annotator: Member, models: dict[str, ModelVersion]
) -> None:
    machine.rank_new_slates(annotator, 3)
    plan = plans.draft(project)
    assert plan.number == 2
    assert running(plan) == [Stage.REWARD, Stage.PPO, Stage.SAMPLING]
    assert plan.stage(Stage.SFT).reason == "No answers have been written yet."
    assert parents(plan, Stage.REWARD) == {"policy": "sft-1"}
    assert parents(plan, Stage.PPO) == {"policy": "sft-1", "reference": "sft-1", "reward": "reward-2"}
    assert parents(plan, Stage.EVALUATION) == {"policy": "ppo-2", "reference": "sft-1", "reward": "reward-2"}
    assert parents(plan, Stage.SAMPLING) == {"policy": "ppo-2", "parent": "sft-1", "reward": "reward-2"}


def test_new_demonstrations_move_the_whole_line_to_a_new_sft(
    project: Project, annotator: Member, models: dict[str, ModelVersion]
) -> None:
    machine.write_demonstrations(annotator, 1)
    machine.rank_new_slates(annotator, 3)
    plan = plans.draft(project)
    assert parents(plan, Stage.SFT) == {"base": "base-1"}
    assert parents(plan, Stage.REWARD) == {"policy": "sft-2"}
    assert parents(plan, Stage.PPO) == {"policy": "sft-2", "reference": "sft-2", "reward": "reward-2"}


def test_a_new_sft_is_measured_against_what_it_came_from(project: Project, annotator: Member) -> None:
    machine.make_settings(project)
    machine.make_model(project, "base")
    machine.write_demonstrations(annotator, 2)
    assert parents(plans.draft(project), Stage.EVALUATION) == {"policy": "sft-1", "reference": "base-1"}


def test_ppo_starts_from_the_champion_where_the_project_says_so(
    project: Project, annotator: Member, models: dict[str, ModelVersion]
) -> None:
    TrainingSettings.objects.update(ppo_start=TrainingSettings.PPOStart.CHAMPION)
    machine.rank_new_slates(annotator, 3)
    assert parents(plans.draft(project), Stage.PPO)["policy"] == "sft-1"  # nobody promoted yet
    Promotion.objects.create(project=project, model_version=models["ppo"], promoted_by=None, reason="better")
    plan = plans.draft(project)
    assert parents(plan, Stage.PPO)["policy"] == "ppo-1"
    assert parents(plan, Stage.PPO)["reference"] == "sft-1"
    measured = {"policy": "ppo-2", "reference": "sft-1", "parent": "ppo-1", "reward": "reward-2"}
    assert parents(plan, Stage.EVALUATION) == measured


def test_without_demonstrations_the_base_model_is_the_reference(project: Project, annotator: Member) -> None:
    machine.make_settings(project, demonstrations_minimum=0)
    machine.make_model(project, "base")
    machine.make_prompts(project, 3)
    plan = plans.draft(project)
    assert running(plan) == [Stage.SAMPLING]
    assert parents(plan, Stage.SAMPLING) == {"policy": "base-1"}
    machine.rank_new_slates(annotator, 3)
    assert parents(plans.draft(project), Stage.PPO) == {"policy": "base-1", "reference": "base-1", "reward": "reward-1"}


def test_a_tenth_of_the_slates_is_for_held_out_prompts(project: Project) -> None:
    assert slate_budget(200, label_counts(train=1000, heldout=1000)) == (180, 20)
    assert slate_budget(200, label_counts(train=100, heldout=5)) == (100, 5)


def test_rankings_that_are_all_ties_train_nothing(project: Project, annotator: Member) -> None:
    machine.make_settings(project)
    machine.make_model(project, "base")
    machine.rank_new_slates(annotator, 3, tied=True)
    plan = plans.draft(project)
    assert plan.stage(Stage.REWARD).counts == {"rankings": 3, "new_rankings": 3, "tied_rankings": 3}
    assert "tie" in plan.stage(Stage.REWARD).reason


def test_a_plan_survives_being_stored(project: Project, annotator: Member, models: dict[str, ModelVersion]) -> None:
    plan = plans.draft(project)
    assert Plan.from_json(plan.to_json()) == plan


def test_the_readiness_sentence_counts_what_is_missing(
    project: Project, annotator: Member, models: dict[str, ModelVersion]
) -> None:
    TrainingSettings.objects.update(rankings_minimum=20)
    machine.rank_new_slates(annotator, 3)
    assert hooks.readiness(project) == trainable_labels.Readiness("17 more rankings before round 2 can train", 17)
    assert plans.draft(project).obstacle == "17 more rankings before round 2 can train"


def test_the_first_round_waits_for_demonstrations_and_the_base_model(project: Project, annotator: Member) -> None:
    machine.make_settings(project)
    machine.write_demonstrations(annotator, 1)
    assert hooks.readiness(project) == trainable_labels.Readiness("1 more answer before round 1 can train", 1)
    machine.write_demonstrations(annotator, 1)
    assert hooks.readiness(project) == trainable_labels.Readiness("Round 1 can train once the base model is ready", 0)
    assert "The base model “random” is not ready yet" in plans.draft(project).obstacle
    with pytest.raises(rounds.NotReady):
        rounds.open(project, opened_by=None)
    machine.make_model(project, "base")
    assert hooks.readiness(project) == trainable_labels.Readiness("Round 1 can train", 0)


def test_a_round_that_could_train_says_that_it_waits_for_the_running_one(
    project: Project, annotator: Member, models: dict[str, ModelVersion]
) -> None:
    round = Round.objects.create(project=project, number=2, plan={}, snapshot=machine.make_snapshot(project))
    machine.rank_new_slates(annotator, 3)
    assert hooks.readiness(project) == trainable_labels.Readiness("Round 3 can train once round 2 is done", 0)
    with pytest.raises(rounds.RoundRunning):
        rounds.open(project, opened_by=None)
    Round.objects.filter(pk=round.pk).update(status=Round.Status.CANCELLED)
    assert hooks.readiness(project) == trainable_labels.Readiness("Round 3 can train", 0)


def test_several_projects_are_each_told_their_own(
    project: Project, annotator: Member, models: dict[str, ModelVersion]
) -> None:
    other = make_member(make_project())
    machine.make_settings(other.project)
    machine.rank_new_slates(annotator, 1)
    machine.write_demonstrations(other, 1)
    found = hooks.readiness_of([project, other.project, make_project()])
    assert {pk: answer.sentence for pk, answer in found.items()} == {
        project.pk: "2 more rankings before round 2 can train",
        other.project_id: "1 more answer before round 1 can train",
    }


def test_while_the_first_round_runs_the_next_one_asks_for_rankings(project: Project, annotator: Member) -> None:
    machine.make_settings(project, rankings_minimum=3)
    Round.objects.create(project=project, number=1, plan={}, status=Round.Status.RUNNING)
    readiness = trainable_labels.readiness(project)
    assert readiness and "3 more rankings before round 2" in readiness.sentence


def test_labels_of_the_running_round_count_for_no_other(
    project: Project, annotator: Member, models: dict[str, ModelVersion]
) -> None:
    machine.rank_new_slates(annotator, 3)
    Round.objects.create(project=project, number=2, plan={}, snapshot=machine.make_snapshot(project))
    machine.rank_new_slates(annotator, 1)
    assert hooks.readiness(project) == trainable_labels.Readiness("2 more rankings before round 3 can train", 2)


@pytest.mark.parametrize("ended", [Round.Status.CANCELLED, Round.Status.FAILED])
def test_labels_of_a_round_that_led_nowhere_count_for_the_next_one(
    project: Project, annotator: Member, models: dict[str, ModelVersion], ended: str
) -> None:
    machine.rank_new_slates(annotator, 3)
    snapshot = machine.make_snapshot(project)
    Round.objects.create(project=project, number=2, plan={}, snapshot=snapshot, status=ended)
    machine.make_model(project, "reward", parent=models["sft"], snapshot=snapshot)
    assert hooks.readiness(project) == trainable_labels.Readiness("Round 3 can train", 0)
    assert running(plans.draft(project))[:2] == [Stage.REWARD, Stage.PPO]


def test_a_project_without_training_settings_has_no_readiness(db: None) -> None:
    assert hooks.readiness(make_project()) is None


def label_counts(*, train: int, heldout: int) -> LabelCounts:
    counts = dict.fromkeys(LabelCounts.__dataclass_fields__, 0)
    return LabelCounts(**counts | {"train_prompts": train, "heldout_prompts": heldout})


def test_a_round_of_which_no_stage_would_run_is_not_started(project: Project, admin: Member) -> None:
    """Or it would succeed, and the next one would wait for rankings of answers that nobody wrote."""
    machine.make_settings(project, demonstrations_minimum=0)
    machine.make_model(project, "base")
    plan = plans.draft(project)
    assert running(plan) == []
    assert plan.obstacle.startswith("No stage of the round would run")
    with pytest.raises(rounds.NotReady):
        rounds.open(project, opened_by=admin.user)
