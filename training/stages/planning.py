"""From what a round is planned, and the plan of one of its stages. Numbers and names only: no rows, no queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class ParentRole(StrEnum):
    """What a model is to the stage that starts from it, as the engine's config calls it."""

    BASE = "base"
    POLICY = "policy"
    REFERENCE = "reference"
    REWARD = "reward"
    WATCHER = "watcher"  # a reward model that PPO does not climb
    PARENT = "parent"  # what the policy was trained from


@dataclass(frozen=True, kw_only=True)
class LabelCounts:
    """How many labels and prompts there are; new is what came after the model that would use it was made."""

    demonstrations: int
    new_demonstrations: int
    rankings: int  # those that the reward model learns from, as far as they are kept for nobody else
    new_rankings: int
    tied_rankings: int  # all placed completions equal: kept, but no pair to learn from
    watcher_rankings: int  # those that are kept for the watcher, and the same of them
    new_watcher_rankings: int
    tied_watcher_rankings: int
    heldout_rankings: int
    train_prompts: int
    heldout_prompts: int


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
class Situation:
    """What a stage of the next round finds: labels, settings, and the models after the stages before it."""

    labels: LabelCounts
    minima: Mapping[str, int]  # new labels that a round takes, by "demonstrations" and "rankings"
    slates_per_round: int
    base: PlannedParent
    newest: Mapping[str, PlannedParent]  # by kind of model
    names: Mapping[str, str]  # what a model that this round makes will be called, by stage
    policy: PlannedParent  # the newest of any kind that can answer
    policy_parent: PlannedParent | None  # what it was trained from
    ppo_champion: PlannedParent | None = None  # where PPO is to start from the champion, and that came of PPO
    made: frozenset[str] = frozenset()  # stages before this one that make a model
    is_policy_new: bool = False  # this round makes it

    @property
    def sft(self) -> PlannedParent:
        """The newest SFT: the reference of everything later. The base model where nobody wrote demonstrations."""
        return self.newest.get("sft", self.base)

    @property
    def reward(self) -> PlannedParent | None:
        return self.newest.get("reward")

    @property
    def watcher(self) -> PlannedParent | None:
        """The newest watcher, unless a reward model that is newer may have seen its rankings."""
        is_beside = self.makes_here("watcher") or not self.makes_here("reward")
        return self.newest.get("watcher") if is_beside else None

    def makes_here(self, stage: str) -> bool:
        """Whether `stage` of this round comes before, and will run."""
        return stage in self.made

    def made_by(self, stage: str) -> PlannedParent:
        """The model that `stage` of this round makes: its number is certain, since one round runs at a time."""
        return PlannedParent(name=self.names[stage], stage=stage)


def present(parents: Mapping[ParentRole, PlannedParent | None]) -> dict[str, PlannedParent]:
    """Those of `parents` that there are."""
    return {str(role): parent for role, parent in parents.items() if parent}
