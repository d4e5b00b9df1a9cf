"""The watcher, on pages "independent judge": when a round trains one, and what PPO and the lineage make of it."""

from __future__ import annotations

import pytest

from annotate.models import Member, Project
from tests.training import machine
from training.services.labels import trainable_labels
from training.services.planning import plans
from training.stages import Stage, find, watcher
from training.stages.planning import LabelCounts, PlannedParent, Situation

pytestmark = [pytest.mark.django_db, pytest.mark.database]

ENOUGH = 30  # so many that both sides have some, whatever their texts


@pytest.fixture
def small_minimum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Projects have enough rankings for a watcher once they have thirty: more take their time."""
    monkeypatch.setattr(watcher, "WATCHER_MINIMUM", ENOUGH)


@pytest.fixture
def planned(project: Project) -> Project:
    """A project with a base model and an SFT, without weights."""
    machine.make_settings(project)
    machine.make_model(project, "sft", parent=machine.make_model(project, "base"))
    return project


def counts(project: Project) -> LabelCounts:
    return trainable_labels.count(project)


@pytest.mark.usefixtures("small_minimum")
def test_a_round_that_makes_a_reward_model_makes_a_watcher_that_ppo_gets(planned: Project, annotator: Member) -> None:
    machine.rank_new_slates(annotator, ENOUGH)
    plan = plans.draft(planned)
    judge, ppo = plan.stage(Stage.WATCHER), plan.stage(Stage.PPO)
    assert (judge.reason, judge.parents["policy"].name) == ("", "sft-1")
    assert ppo.parents["watcher"] == PlannedParent(name="watcher-1", stage=Stage.WATCHER)
    assert ppo.parents["reward"].name == "reward-1"
    assert plan.stage(Stage.EVALUATION).parents["watcher"] == ppo.parents["watcher"]
    assert find(Stage.PPO).role_label("watcher") == "independent judge"


@pytest.mark.usefixtures("small_minimum")
def test_the_rankings_of_both_are_counted_apart_and_new_ones_together(planned: Project, annotator: Member) -> None:
    machine.rank_new_slates(annotator, ENOUGH - 1)
    machine.rank_new_slates(annotator, 1, tied=True)
    found, plan = counts(planned), plans.draft(planned)
    assert found.rankings and found.watcher_rankings
    assert found.rankings + found.watcher_rankings == ENOUGH
    assert found.tied_rankings + found.tied_watcher_rankings == 1 == plan.total("tied_rankings")
    assert plan.total("new_rankings") == ENOUGH
    assert plan.stage(Stage.REWARD).counts["rankings"] == found.rankings
    assert plan.stage(Stage.WATCHER).counts["watcher_rankings"] == found.watcher_rankings


def test_too_few_rankings_leave_it_out_and_say_how_many_it_takes(planned: Project, annotator: Member) -> None:
    machine.rank_new_slates(annotator, 3)
    plan = plans.draft(planned)
    assert plan.stage(Stage.WATCHER).reason == (
        "3 rankings are too few to keep some for an independent judge: that takes 200."
    )
    assert plan.stage(Stage.REWARD).counts["rankings"] == 3
    assert plan.stage(Stage.PPO).will_run and "watcher" not in plan.stage(Stage.PPO).parents


def test_a_project_that_had_one_is_told_that_it_has_none_now(planned: Project, annotator: Member) -> None:
    machine.make_model(planned, "watcher")
    machine.rank_new_slates(annotator, 3)
    plan = plans.draft(planned)
    assert "watcher" not in plan.stage(Stage.EVALUATION).parents, "the new reward model may have seen its rankings"
    reason = plan.stage(Stage.WATCHER).reason
    assert reason.endswith("that takes 200. PPO goes without one now; watcher-1 was the last.")


def test_without_a_new_reward_model_there_is_nothing_to_watch(planned: Project) -> None:
    assert plans.draft(planned).stage(Stage.WATCHER).reason == "There is no new reward model to watch over."


@pytest.mark.parametrize(
    ("rankings", "kept", "tied", "reason"),
    [
        (200, 100, 99, ""),
        (200, 100, 100, "Every ranking that is kept for it is a tie, so there are no preferences to learn from."),
        (300, 0, 0, "The rankings are of too few different prompts to keep some for an independent judge."),
    ],
)
def test_a_watcher_is_left_out_where_it_could_learn_nothing(rankings: int, kept: int, tied: int, reason: str) -> None:
    labels = dict.fromkeys(LabelCounts.__dataclass_fields__, 0)
    labels |= {"rankings": rankings, "watcher_rankings": kept, "tied_watcher_rankings": tied}
    base = PlannedParent(name="base-1", model_version=1)
    now = Situation(
        labels=LabelCounts(**labels),
        minima={},
        slates_per_round=0,
        base=base,
        newest={},
        names={},
        policy=base,
        policy_parent=None,
        made=frozenset({Stage.REWARD}),
    )
    assert watcher.plan(now).reason == reason


def test_a_watcher_is_never_taken_for_the_reward_model(planned: Project, annotator: Member) -> None:
    model = machine.make_model(planned, "watcher")
    assert not model.is_policy
    machine.write_demonstrations(annotator, 2)
    assert "reward" not in plans.draft(planned).stage(Stage.SAMPLING).parents
