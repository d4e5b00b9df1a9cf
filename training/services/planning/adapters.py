"""Adapters among the models of a round: what keeps them from being used, and how much smaller they make it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from django.utils.text import capfirst
from django.utils.translation import gettext as _

from training import stages
from training.models import ModelVersion
from training.rlhf.config import LearningConfig, RunConfig
from training.rlhf.model_folder.adapter_files import Shape
from training.services.planning.plans import Plan
from training.services.registry import model_versions
from training.stages import ParentRole
from training.stages.planning import PlannedParent, StagePlan

# An adapter's share of a model's weights is at most this times its rank over the model's width: two matrices beside
# each layer, of which the narrow ones of grouped keys and values weigh more.
SHARE = 3

Existing = Mapping[int, ModelVersion]  # adapters by id


class Weights(NamedTuple):
    """What a parent consists of: whole weights, by a name of them, and the shape of an adapter on them, if any."""

    whole: str
    shape: Shape | None = None


class Conflict(NamedTuple):
    """A stage that is to go on from an adapter of another shape; `text` says which."""

    stage: str
    text: str


def existing(plan: Plan) -> Existing:
    """The adapters that there are already and that stages of `plan` start from."""
    planned = [parent for stage in plan.stages if stage.will_run for parent in stage.parents.values()]
    adapters = ModelVersion.objects.filter(stands_on__isnull=False).select_related("stands_on").order_by("pk")
    return adapters.in_bulk({parent.model_version for parent in planned if parent.model_version})


def missing_bases(existing: Existing) -> Iterator[str]:
    """Those of the `existing` adapters whose bases are gone, a sentence each."""
    for model in existing.values():
        if reason := model_versions.why_base_missing(model):
            yield reason


def conflicts(plan: Plan, configs: Mapping[str, RunConfig], existing: Existing) -> Iterator[Conflict]:
    """The stages of `plan` that are to go on from an adapter of another rank or alpha, which the engine refuses."""
    for stage in plan.stages:
        own = _trained(configs.get(stage.stage))
        for parent in _gone_on_from(stage) if own else []:
            shape = _shape_of(parent, existing, configs)
            if shape and shape != own:
                text = _(
                    "%(stage)s starts from %(model)s, an adapter with rank %(rank)d and alpha %(alpha)g. Use the same "
                    "values, or rank 0 to train all weights."
                )
                said = {"stage": stages.find(stage.stage).label, "model": parent.name, **shape._asdict()}
                yield Conflict(stage.stage, capfirst(text % said))
                break


def weights_of_parents(
    plan: Plan, configs: Mapping[str, RunConfig], existing: Existing
) -> dict[str, dict[str, Weights]]:
    """What each stage of `plan` that runs starts from, by role; those with the same whole weights share them."""
    made, found = dict[str, Weights](), dict[str, dict[str, Weights]]()
    for planned in plan.stages:
        if planned.will_run:
            found[planned.stage] = {
                role: made[parent.stage] if parent.stage in made else _weights_of(parent, existing)
                for role, parent in planned.parents.items()
            }
            start = found[planned.stage].get(stages.find(planned.stage).starts_from)
            shape = _trained(configs.get(planned.stage))
            made[planned.stage] = Weights(start.whole, shape) if start and shape else Weights(f"of {planned.stage}")
    return found


def largest_share(configs: Mapping[str, RunConfig], shape: Mapping[str, Any]) -> float:
    """How much of a model's weights the stages train at most; 1 where one trains them all, or none trains.

    `shape` is the model's config.json.
    """
    width = shape.get("hidden_size") or shape.get("n_embd") or 0
    ranks = [config.adapter_rank for config in configs.values() if isinstance(config, LearningConfig)]
    return min(1.0, SHARE * max(ranks) / width) if ranks and all(ranks) and width else 1.0


def _gone_on_from(stage: StagePlan) -> list[PlannedParent]:
    """What the weights that `stage` trains begin as; PPO's critic begins as the reward model."""
    roles = (stages.find(stage.stage).starts_from, ParentRole.REWARD)
    return [stage.parents[role] for role in roles if role in stage.parents] if stage.will_run else []


def _weights_of(parent: PlannedParent, existing: Existing) -> Weights:
    """What a parent that exists consists of."""
    adapter = existing.get(parent.model_version or 0)
    if adapter is None:
        return Weights(f"model {parent.model_version}")
    return Weights(f"model {adapter.stands_on_id}", _shape_of(parent, existing, {}))


def _shape_of(parent: PlannedParent, existing: Existing, configs: Mapping[str, RunConfig]) -> Shape | None:
    """The shape of a parent that is an adapter, or will be; None for a whole model."""
    if parent.model_version is None:
        return _trained(configs.get(parent.stage or ""))
    if parent.model_version not in existing:
        return None
    config = existing[parent.model_version].config
    return Shape(config.get("adapter_rank", 0), config.get("adapter_alpha", 0.0))


def _trained(config: RunConfig | None) -> Shape | None:
    """The shape of the adapters that a stage trains; None where it trains all weights, or nothing."""
    if not isinstance(config, LearningConfig) or not config.adapter_rank:
        return None
    return Shape(config.adapter_rank, config.adapter_alpha)
