"""A stage is added by the engine's config and module and one row of the registry: a toy stage goes the whole way."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse
from django.utils.translation import ngettext_lazy
from pytest_django import Settings

from annotate.models import Member, Project
from tests.training import machine
from tests.training.stages.toy_engine import ToyConfig
from training import stages
from training.models import ModelVersion, Round, Run
from training.rlhf import config
from training.services.planning import plans
from training.services.running import rounds
from training.stages import Makes, Metric, Stage, StageDefinition
from training.stages.planning import Situation, StagePlan

pytestmark = pytest.mark.django_db(transaction=True)


def plan(now: Situation) -> StagePlan:
    reason = "" if now.labels.rankings else "There is nothing to copy for."
    return StagePlan(
        stage="toy", reason=reason, parents={"policy": now.policy}, counts={"rankings": now.labels.rankings}
    )


TOY = StageDefinition(
    name="toy",
    config=ToyConfig,
    label="toy stage",
    short_label="Toy",
    purpose="It copies the policy.",
    roles={"policy": "copied from"},
    plan=plan,
    work=ngettext_lazy("%(number)d toy", "%(number)d toys", "number"),
    counts=("rankings",),
    data=("rankings",),
    makes=Makes.POLICY,
    kind="toy",
    kind_label="toy model",
    weights_on_disk=2,
    metrics={"toy/rankings": Metric(label="rankings read", meaning="How many.", healthy="All.", low=1.0)},
    shown_metrics=("toy/rankings",),
)


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """The stage is there, between PPO and evaluation, here and in the engine."""
    place = [definition.name for definition in stages.DEFINITIONS].index(Stage.EVALUATION)
    definitions = [*stages.DEFINITIONS[:place], TOY, *stages.DEFINITIONS[place:]]
    monkeypatch.setattr(stages, "DEFINITIONS", definitions)
    monkeypatch.setitem(config.STAGES, "toy", ToyConfig)
    settings.ENGINE_MODULE = "tests.training.stages.toy_engine"


@pytest.fixture
def labelled(project: Project, base: ModelVersion, annotator: Member) -> Project:
    """A project whose next round has all stages."""
    Project.objects.update(heldout_share=0.5)
    annotator.refresh_from_db()
    machine.write_demonstrations(annotator, 4)
    machine.rank_new_slates(annotator, 24)  # so many that both sides of the split have enough, whatever their texts
    return annotator.project


def test_it_is_planned_from_what_the_stages_before_it_make_and_followed_by_those_after_it(labelled: Project) -> None:
    planned = plans.draft(labelled)
    assert [stage.stage for stage in planned.stages] == [*machine.ROUND_STAGES[:4], "toy", *machine.ROUND_STAGES[4:]]
    assert planned.stage("toy").parents["policy"].stage == Stage.PPO
    assert planned.stage(Stage.SAMPLING).parents["policy"].stage == "toy"


@pytest.mark.slow
def test_it_goes_from_its_data_through_the_engine_to_a_model_and_onto_every_page(
    labelled: Project, client: Client, admin: Member
) -> None:
    round = rounds.open(labelled, opened_by=None)
    machine.work_off()
    round.refresh_from_db()
    assert (round.status, round.error) == (Round.Status.SUCCEEDED, "")
    run = round.runs.get(stage="toy")
    assert (run.status, run.metrics) == (Run.Status.SUCCEEDED, {"toy/rankings": count_rankings(round)})
    model = run.model_version
    assert (model.name, model.is_policy, model.parent.kind) == ("toy-1", True, "ppo")
    slug = labelled.slug
    pages = {
        reverse("training:rounds", args=[slug]): "Toy stage",
        reverse("training:round", args=[slug, round.number]): "Toy",
        reverse("training:run", args=[slug, run.pk]): "Rankings read",
        reverse("training:models", args=[slug]): "toy-1",
        reverse("training:model", args=[slug, model.pk]): "Toy model",
    }
    client.force_login(admin.user)
    for address, text in pages.items():
        answer = client.get(address)
        assert answer.status_code == 200
        assert text in answer.content.decode(), address


def count_rankings(round: Round) -> int:
    """The rankings that the round trains on: held-out ones are none of them."""
    return plans.load(round).stage(Stage.REWARD).counts["rankings"]
