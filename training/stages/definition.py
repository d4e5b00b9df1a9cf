"""What the platform knows of a stage: one row for each, beside the engine's module that does the work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from training.rlhf.config import RunConfig, trunk_role
from training.stages.metric import Metric, Words
from training.stages.planning import ParentRole, Situation, StagePlan
from training.stages.remedies import Rule


class Stage(StrEnum):
    """The built-in stages, by the names that rows, run directories and the engine's command line use."""

    PRETRAINING = "pretraining"
    SFT = "sft"
    REWARD = "reward"
    WATCHER = "watcher"
    PPO = "ppo"
    EVALUATION = "evaluation"
    SAMPLING = "sampling"


class Makes(StrEnum):
    """What becomes of a stage's output when its run is published."""

    POLICY = "policy"  # a model version that can answer prompts
    REWARD_MODEL = "reward model"  # a model version that scores answers
    MEASUREMENTS = "measurements"  # metrics of the policy that it measured
    SLATES = "slates"  # answers that people rank next


ROLES: dict[str, Words] = {  # what a parent is to a stage, where the stage says nothing else
    ParentRole.BASE: _("from"),
    ParentRole.POLICY: _("policy"),
    ParentRole.REFERENCE: _("reference"),
    ParentRole.REWARD: _("reward model"),
    ParentRole.WATCHER: _("independent judge"),
    ParentRole.PARENT: _("policy before"),
}
TRUNKS: dict[str, Words] = {  # likewise, of the whole models that adapters in these roles stand on
    trunk_role(role): format_lazy(_("model that the {role} stands on"), role=label) for role, label in ROLES.items()
}


@dataclass(frozen=True, kw_only=True)
class StageDefinition:
    """One stage. `plan` is None for what belongs to no round."""

    name: str
    config: type[RunConfig]  # the engine's, which says which parents it needs

    # in words
    label: Words  # in a sentence
    short_label: Words = ""  # on the strip, where nine cells stand in a row
    purpose: Words  # one sentence: what it does
    roles: Mapping[str, Words] = field(default_factory=dict)  # of its parents, where they differ from ROLES

    # on the page of training settings: those that people change most, first; without any, all of its own
    main_settings: tuple[str, ...] = ()

    # in a round
    plan: Callable[[Situation], StagePlan] | None = None  # what it would do in the next round, or why it is left out
    work: Any = ""  # what it works on: a lazy plural of "number"
    counts: tuple[str, ...] = ()  # of its plan, which together are that number
    starts_from: str = ParentRole.POLICY  # the role whose model it trains on, and whose tokenizer reads its records

    # what it reads and makes
    data: tuple[str, ...] = ()  # files of the snapshot; what is held out reaches no stage that trains
    makes: Makes
    kind: str = ""  # of the model version that it makes
    kind_label: Words = ""  # where it is another than the stage's

    # what it costs
    weights_on_disk: int = 0  # how many times its weights at most: output, two checkpoints and the one being written

    # what can go wrong in it alone, by the kind that its engine raises
    failures: Mapping[str, Rule] = field(default_factory=dict)

    # what it tells
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    shown_metrics: tuple[str, ...] = ()  # the most telling first; the others are in the file only
    numbered_metrics: Mapping[str, Metric] = field(default_factory=dict)  # by the part of their name before a number

    @property
    def makes_model(self) -> bool:
        """Whether a model version comes of it."""
        return self.makes in (Makes.POLICY, Makes.REWARD_MODEL)

    def situation_after(self, now: Situation, plan: StagePlan) -> Situation:
        """What the next stage finds once this one has done as planned."""
        if not plan.will_run or not self.makes_model:
            return now
        made = now.made_by(self.name)
        later = replace(now, newest={**now.newest, self.kind: made}, made=now.made | {self.name})
        if self.makes is not Makes.POLICY:
            return later
        return replace(later, policy=made, policy_parent=plan.parents[self.starts_from], is_policy_new=True)

    def number(self, counts: Mapping[str, int]) -> int | None:
        """How much it works on, by the `counts` of its plan; None where these say nothing about it."""
        known = [counts[name] for name in self.counts if name in counts]
        return sum(known) if known else None

    def amount(self, counts: Mapping[str, int]) -> str:
        """The same in words."""
        return str(self.work % {"number": self.number(counts) or 0}) if self.work else ""

    def role_label(self, role: str) -> str:
        """What the parent `role` is to this stage."""
        return str({**TRUNKS, **ROLES, **self.roles}.get(role, role))
