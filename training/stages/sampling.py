"""Sampling: the newest policy and its parent write the answers that people rank next."""

from __future__ import annotations

from django.utils.translation import gettext, ngettext_lazy
from django.utils.translation import gettext_lazy as _

from training.rlhf.config import SamplingConfig
from training.stages.definition import Makes, Stage, StageDefinition
from training.stages.metric import Metric, Summary
from training.stages.planning import LabelCounts, ParentRole, Situation, StagePlan, present

HELDOUT_SLATES = 0.1  # of a round's slates are for held-out prompts; their rankings only measure


def plan(now: Situation) -> StagePlan:
    """Slates are opened as long as there is a prompt to answer."""
    train, heldout = slate_budget(now.slates_per_round, now.labels)
    reason = "" if train + heldout else gettext("There are no prompts to answer.")
    parents = present(
        {ParentRole.POLICY: now.policy, ParentRole.PARENT: now.policy_parent, ParentRole.REWARD: now.reward}
    )
    counts = {"slates": train, "heldout_slates": heldout}
    return StagePlan(stage=Stage.SAMPLING, reason=reason, parents=parents, counts=counts)


def slate_budget(wanted: int, labels: LabelCounts) -> tuple[int, int]:
    """How many slates a round opens for train and for held-out prompts: one a prompt at most."""
    heldout = min(round(wanted * HELDOUT_SLATES), labels.heldout_prompts)
    return min(wanted - heldout, labels.train_prompts), heldout


METRICS = {
    "sampling/slates": Metric(
        summary=Summary.TOTAL,
        label=_("sets of answers"),
        meaning=_("Number of prompts with enough different answers to rank."),
        healthy=_("As many as planned."),
    ),
    "sampling/completions": Metric(
        summary=Summary.TOTAL,
        label=_("answers"),
        meaning=_("Number of answers in these sets. A set has fewer if the policy repeats itself."),
        healthy=_("As many as planned for each set."),
    ),
}

SAMPLING = StageDefinition(
    name=Stage.SAMPLING,
    label=_("sampling"),
    short_label=_("Sample"),
    purpose=_("The newest policy writes answers for people to rank next."),
    config=SamplingConfig,
    makes=Makes.SLATES,
    roles={ParentRole.PARENT: _("a quarter from")},
    plan=plan,
    work=ngettext_lazy("%(number)d set", "%(number)d sets", "number"),
    counts=("slates", "heldout_slates"),
    metrics=METRICS,
    shown_metrics=("sampling/slates", "sampling/completions"),
)
