"""Plans: what a round would do, and why it would leave something out, said before anything runs.

A plan names its models: those that exist by their row, those that the round will make by their stage. Left out on
purpose: how many texts are too long for the model, which only the engine's tokenizer can tell.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from operator import attrgetter
from typing import Any

from django.db.models import Max
from django.utils.translation import gettext as _

from annotate.models import Project
from training import stages
from training.models import ModelVersion, Round, Run, TrainingSettings
from training.services.labels import slates, snapshots, trainable_labels
from training.services.labels.trainable_labels import Readiness
from training.services.registry import base_models, promotions
from training.services.run_files.directories import Record
from training.stages.planning import PlannedParent, Situation, StagePlan

Kind = ModelVersion.Kind


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The stages of a round in their order. With an `obstacle` the round cannot be opened."""

    number: int
    obstacle: str
    stages: list[StagePlan]
    minima: dict[str, int] = field(default_factory=dict)  # new labels of each kind that it took; {} in old rounds

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Plan:
        return cls(**raw | {"stages": [_stage_from_json(stage) for stage in raw["stages"]]})

    def stage(self, name: str) -> StagePlan:
        return next(stage for stage in self.stages if stage.stage == name)

    def total(self, count: str) -> int:
        """What its stages count under that name, together: rankings are shared by two of them."""
        return sum(stage.counts.get(count, 0) for stage in self.stages)


def draft(project: Project) -> Plan:
    """What a round opened now would do."""
    return draft_from(project, TrainingSettings.objects.get(project=project), trainable_labels.readiness(project))


def draft_from(project: Project, training: TrainingSettings, readiness: Readiness | None) -> Plan:
    """The same, where the settings and the readiness of `project` have been read already."""
    situation = _situation(project, training)
    obstacle = _obstacle(situation, training, readiness)
    newest = Round.objects.filter(project=project).order_by("number").last()
    planned = []
    for stage in stages.DEFINITIONS:
        if stage.plan:
            planned.append(stage.plan(situation))
            situation = stage.situation_after(situation, planned[-1])
    if not obstacle and not any(stage.will_run for stage in planned):
        obstacle = _("No stage of the round would run. The plan says why for each of them.")
    number = newest.number + 1 if newest else 1
    return Plan(number=number, obstacle=obstacle, stages=planned, minima=dict(situation.minima))


def load(round: Round) -> Plan:
    """The plan that `round` was opened with."""
    return Plan.from_json(round.plan)


def parents_of(run: Run) -> dict[str, ModelVersion]:
    """The models that the run of a round starts from, by the role each has in its stage."""
    if run.round is None:
        return {}
    planned = load(run.round).stage(run.stage).parents
    return {role: resolve(run.round, parent) for role, parent in planned.items()}


def prompts_to_answer(project: Project, stage: StagePlan, *, number: int) -> list[Record]:
    """The prompts of the slates that `stage` of round `number` writes."""
    chosen = slates.choose_prompts(
        project, train=stage.counts["slates"], heldout=stage.counts["heldout_slates"], seed=number
    )
    return [snapshots.prompt_record(prompt) for prompt in chosen]


def resolve(round: Round, parent: PlannedParent) -> ModelVersion:
    """The model that a plan meant; what the round makes itself exists once that stage has succeeded."""
    if parent.model_version:
        return ModelVersion.objects.get(pk=parent.model_version)
    return ModelVersion.objects.get(run__round=round, run__stage=parent.stage)


def _situation(project: Project, training: TrainingSettings) -> Situation:
    """What the first stage of a round would find now."""
    models = ModelVersion.objects.filter(project=project)
    newest = {model.kind: model for model in models.with_weights().newest_of_each_kind().select_related("parent")}
    policy = max((model for model in newest.values() if model.is_policy), key=attrgetter("pk"), default=None)
    numbers = dict(models.order_by().values_list("kind").annotate(Max("number")))
    base = _parent(newest[Kind.BASE]) if Kind.BASE in newest else PlannedParent(name=_("base model"))
    return Situation(
        labels=trainable_labels.count(project),
        minima={"demonstrations": training.demonstrations_minimum, "rankings": training.rankings_minimum},
        slates_per_round=training.slates_per_round,
        base=base,
        newest={kind: _parent(model) for kind, model in newest.items()},
        names={
            stage.name: f"{stage.kind}-{numbers.get(stage.kind, 0) + 1}"
            for stage in stages.DEFINITIONS
            if stage.makes_model
        },
        policy=_parent(policy) if policy else base,
        policy_parent=_parent(policy.parent) if policy and policy.parent else None,
        ppo_champion=_ppo_champion(project, training),
    )


def _ppo_champion(project: Project, training: TrainingSettings) -> PlannedParent | None:
    """Where PPO is to start from the champion: that, unless no PPO made it."""
    if training.ppo_start != TrainingSettings.PPOStart.CHAMPION:
        return None
    champion = promotions.champion(project)
    return _parent(champion) if champion and champion.kind == Kind.PPO else None


def _obstacle(situation: Situation, training: TrainingSettings, readiness: Readiness | None) -> str:
    if situation.base.model_version is None:
        return base_models.why_missing(training)
    return readiness.sentence if readiness and readiness.missing else ""


def _parent(model: ModelVersion) -> PlannedParent:
    return PlannedParent(name=model.name, model_version=model.pk)


def _stage_from_json(raw: dict[str, Any]) -> StagePlan:
    return StagePlan(**raw | {"parents": {role: PlannedParent(**parent) for role, parent in raw["parents"].items()}})
