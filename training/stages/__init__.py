"""The registry of the stages: everything that the platform knows of each, one module a stage.

A new stage is one more module here, and one line below; the engine has its own module of the same name. How that is
done is shown in docs/architecture.md.
"""

from __future__ import annotations

from training.stages.definition import ROLES, TRUNKS, Makes, Stage, StageDefinition
from training.stages.evaluation import EVALUATION
from training.stages.metric import Metric, Words
from training.stages.planning import ParentRole
from training.stages.ppo import PPO
from training.stages.pretraining import PRETRAINING
from training.stages.reward import REWARD
from training.stages.sampling import SAMPLING
from training.stages.sft import SFT
from training.stages.watcher import WATCHER

__all__ = [
    "DEFINITIONS",
    "ROLES",
    "TRUNKS",
    "Makes",
    "Metric",
    "ParentRole",
    "Stage",
    "StageDefinition",
    "Words",
    "all_metrics",
    "find",
    "kind_choices",
    "policy_kinds",
    "stage_choices",
]

# In the order in which a round runs them. A list, so that a test or an extension can put a stage in its place.
DEFINITIONS: list[StageDefinition] = [PRETRAINING, SFT, REWARD, WATCHER, PPO, EVALUATION, SAMPLING]


def find(name: str) -> StageDefinition:
    """The stage called `name`. Raises KeyError for one that is not registered."""
    for definition in DEFINITIONS:
        if definition.name == name:
            return definition
    raise KeyError(name)


def stage_choices() -> list[tuple[str, Words]]:
    """Name and label of each stage, for a model's field."""
    return [(definition.name, definition.label) for definition in DEFINITIONS]


def kind_choices() -> list[tuple[str, Words]]:
    """The kinds of model versions: one for each stage that makes a model."""
    return [
        (definition.kind, definition.kind_label or definition.label)
        for definition in DEFINITIONS
        if definition.makes_model
    ]


def policy_kinds() -> list[str]:
    """The kinds of model versions that can answer prompts."""
    return [definition.kind for definition in DEFINITIONS if definition.makes is Makes.POLICY]


def all_metrics() -> dict[str, Metric]:
    """Every metric by its name, in the order of the stages; what several stages tell stands with the last of them."""
    found: dict[str, Metric] = {}
    for definition in DEFINITIONS:
        for name, metric in definition.metrics.items():
            found.pop(name, None)
            found[name] = metric
    return found
