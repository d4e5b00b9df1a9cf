"""Plans: what a round would do, and why it would leave something out, said before anything runs.

A plan names its models: those that exist by their row, those that the round will make by their stage. Left out on
purpose: how many texts are too long for the model, which only the engine's tokenizer can tell.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple

from django.db.models import Max
from django.utils.translation import gettext as _

from annotate.models import Project
from training.models import ModelVersion, Round, Run, Stage, TrainingSettings
from training.services.labels import trainable_labels
from training.services.labels.trainable_labels import LabelCounts, Readiness
from training.services.registry import base_models, promotions

HELDOUT_SLATES = 0.1  # of a round's slates are for held-out prompts; their rankings only measure

STAGES = (Stage.SFT, Stage.REWARD, Stage.PPO, Stage.EVALUATION, Stage.SAMPLING)  # in the order in which they run
Kind = ModelVersion.Kind


@dataclass(frozen=True, kw_only=True)
class PlannedParent:
    """A model that a stage starts from: one that exists, or the one that `stage` of this round makes."""

    name: str
    model_version: int | None = None
    stage: str | None = None


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """One stage of a round: what it starts from and on how much, or why it is left out."""

    stage: str
    reason: str = ""  # why it is left out; "" means that it runs
    parents: dict[str, PlannedParent] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def will_run(self) -> bool:
        return not self.reason


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


class _Lineage(NamedTuple):
    """The models that the stages of a round build on, newest of each kind."""

    base: PlannedParent
    sft: PlannedParent  # the base model where nobody wrote demonstrations: the reference of everything later
    reward: PlannedParent | None
    policy: PlannedParent
    policy_parent: PlannedParent | None  # what the policy was trained from
    is_policy_new: bool


def draft(project: Project) -> Plan:
    """What a round opened now would do."""
    return draft_from(project, TrainingSettings.objects.get(project=project), trainable_labels.readiness(project))


def draft_from(project: Project, training: TrainingSettings, readiness: Readiness | None) -> Plan:
    """The same, where the settings and the readiness of `project` have been read already."""
    labels, lineage = trainable_labels.count(project), _existing(project)
    sft = _sft(labels, training, lineage)
    lineage = _after_sft(project, sft, lineage)
    reward = _reward(labels, training, lineage)
    ppo = _ppo(labels, project, training, lineage, reward)
    lineage = _after_ppo(project, reward, ppo, lineage)
    return Plan(
        number=trainable_labels.next_round_number(project),
        obstacle=_obstacle(lineage, training, readiness),
        stages=[sft, reward, ppo, _evaluation(labels, lineage), _sampling(labels, training, lineage)],
        minima={"demonstrations": training.demonstrations_minimum, "rankings": training.rankings_minimum},
    )


def load(round: Round) -> Plan:
    """The plan that `round` was opened with."""
    return Plan.from_json(round.plan)


def parents_of(run: Run) -> dict[str, ModelVersion]:
    """The models that the run of a round starts from, by the role each has in its stage."""
    if run.round is None:
        return {}
    planned = load(run.round).stage(run.stage).parents
    return {role: resolve(run.round, parent) for role, parent in planned.items()}


def resolve(round: Round, parent: PlannedParent) -> ModelVersion:
    """The model that a plan meant; what the round makes itself exists once that stage has succeeded."""
    if parent.model_version:
        return ModelVersion.objects.get(pk=parent.model_version)
    return ModelVersion.objects.get(run__round=round, run__stage=parent.stage)


def slate_budget(wanted: int, labels: LabelCounts) -> tuple[int, int]:
    """How many slates a round opens for train and for held-out prompts: one a prompt at most."""
    heldout = min(round(wanted * HELDOUT_SLATES), labels.heldout_prompts)
    return min(wanted - heldout, labels.train_prompts), heldout


def _obstacle(lineage: _Lineage, training: TrainingSettings, readiness: Readiness | None) -> str:
    if lineage.base.model_version is None:
        return base_models.why_missing(training)
    return readiness.sentence if readiness and readiness.missing else ""


def _existing(project: Project) -> _Lineage:
    """The newest models that there are before the round."""
    models = ModelVersion.objects.filter(project=project, weights_deleted_at=None)
    newest_pks = models.order_by().values("kind").annotate(newest=Max("pk")).values("newest")
    newest = {model.kind: model for model in models.filter(pk__in=newest_pks).select_related("parent")}
    policies = [model for kind, model in newest.items() if kind != Kind.REWARD]
    policy = max(policies, key=attrgetter("pk"), default=None)
    base = _parent(newest.get(Kind.BASE)) or PlannedParent(name=_("base model"))
    return _Lineage(
        base=base,
        sft=_parent(newest.get(Kind.SFT)) or base,
        reward=_parent(newest.get(Kind.REWARD)),
        policy=_parent(policy) or base,
        policy_parent=_parent(policy.parent) if policy else None,
        is_policy_new=False,
    )


def _after_sft(project: Project, sft: StagePlan, lineage: _Lineage) -> _Lineage:
    if not sft.will_run:
        return lineage
    made = _next_model(project, Stage.SFT)
    return lineage._replace(sft=made, policy=made, policy_parent=lineage.base, is_policy_new=True)


def _after_ppo(project: Project, reward: StagePlan, ppo: StagePlan, lineage: _Lineage) -> _Lineage:
    if reward.will_run:
        lineage = lineage._replace(reward=_next_model(project, Stage.REWARD))
    if ppo.will_run:
        made = _next_model(project, Stage.PPO)
        lineage = lineage._replace(policy=made, policy_parent=ppo.parents["policy"], is_policy_new=True)
    return lineage


def _sft(labels: LabelCounts, training: TrainingSettings, lineage: _Lineage) -> StagePlan:
    if not labels.demonstrations:
        reason = _("No answers have been written.")
    elif not labels.new_demonstrations:
        reason = _("No answers are newer than those that %(model)s imitates.") % {"model": lineage.sft.name}
    elif lineage.sft == lineage.base and labels.demonstrations < training.demonstrations_minimum:
        reason = _("%(number)d answers are fewer than the minimum of %(minimum)d.") % {
            "number": labels.demonstrations,
            "minimum": training.demonstrations_minimum,
        }
    else:
        reason = ""
    counts = {"demonstrations": labels.demonstrations, "new_demonstrations": labels.new_demonstrations}
    return StagePlan(stage=Stage.SFT, reason=reason, parents={"base": lineage.base}, counts=counts)


def _reward(labels: LabelCounts, training: TrainingSettings, lineage: _Lineage) -> StagePlan:
    if not labels.rankings:
        reason = _("No rankings yet.")
    elif labels.new_rankings < training.rankings_minimum:
        reason = _("%(number)d new rankings are fewer than the minimum of %(minimum)d.") % {
            "number": labels.new_rankings,
            "minimum": training.rankings_minimum,
        }
    elif labels.tied_rankings == labels.rankings:
        reason = _("Every ranking is a tie: there is no difference to learn from.")
    else:
        reason = ""
    counts = {
        "rankings": labels.rankings,
        "new_rankings": labels.new_rankings,
        "tied_rankings": labels.tied_rankings,
    }
    return StagePlan(stage=Stage.REWARD, reason=reason, parents={"policy": lineage.sft}, counts=counts)


def _ppo(
    labels: LabelCounts, project: Project, training: TrainingSettings, lineage: _Lineage, reward: StagePlan
) -> StagePlan:
    if not reward.will_run:
        reason = _("There is no new reward model to follow.")
    elif not labels.train_prompts:
        reason = _("There are no training prompts.")
    else:
        reason = ""
    start = lineage.sft
    if training.ppo_start == TrainingSettings.PPOStart.CHAMPION:
        champion = promotions.champion(project)
        if champion and champion.kind == Kind.PPO:
            start = PlannedParent(name=champion.name, model_version=champion.pk)
    parents = {"policy": start, "reference": lineage.sft, "reward": _next_model(project, Stage.REWARD)}
    return StagePlan(stage=Stage.PPO, reason=reason, parents=parents, counts={"prompts": labels.train_prompts})


def _evaluation(labels: LabelCounts, lineage: _Lineage) -> StagePlan:
    if not lineage.is_policy_new:
        reason = _("No new policy to evaluate.")
    elif not labels.heldout_prompts:
        reason = _("There are no held-out prompts.")
    else:
        reason = ""
    # A new SFT is its own reference; what it is to be compared with is what it came from.
    reference = lineage.base if lineage.policy == lineage.sft else lineage.sft
    parents = {"policy": lineage.policy, "reference": reference} | _optional("reward", lineage.reward)
    if lineage.policy_parent != reference:  # PPO that started from the champion
        parents |= _optional("parent", lineage.policy_parent)
    counts = {"heldout_prompts": labels.heldout_prompts, "heldout_rankings": labels.heldout_rankings}
    return StagePlan(stage=Stage.EVALUATION, reason=reason, parents=parents, counts=counts)


def _sampling(labels: LabelCounts, training: TrainingSettings, lineage: _Lineage) -> StagePlan:
    train, heldout = slate_budget(training.slates_per_round, labels)
    reason = "" if train + heldout else _("There are no prompts to answer.")
    parents = {"policy": lineage.policy} | _optional("parent", lineage.policy_parent)
    parents |= _optional("reward", lineage.reward)
    counts = {"slates": train, "heldout_slates": heldout}
    return StagePlan(stage=Stage.SAMPLING, reason=reason, parents=parents, counts=counts)


def _next_model(project: Project, stage: Stage) -> PlannedParent:
    """The model that `stage` of the next round makes: the next number is certain, since one round runs at a time."""
    return PlannedParent(name=f"{stage}-{ModelVersion.objects.next_number(project, stage)}", stage=stage)


def _parent(model: ModelVersion | None) -> PlannedParent | None:
    return PlannedParent(name=model.name, model_version=model.pk) if model else None


def _optional(role: str, parent: PlannedParent | None) -> dict[str, PlannedParent]:
    return {role: parent} if parent else {}


def _stage_from_json(raw: dict[str, Any]) -> StagePlan:
    return StagePlan(**raw | {"parents": {role: PlannedParent(**parent) for role, parent in raw["parents"].items()}})
