"""Evaluation: the round's policy and its reference on held-out prompts, and the reward model on held-out rankings."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from django.utils.translation import gettext, ngettext_lazy
from django.utils.translation import gettext_lazy as _

from training.rlhf.config import EvaluationConfig
from training.stages.definition import Makes, Stage, StageDefinition
from training.stages.metric import PER_TOKEN, STOP_RATE_FLOOR, TOKENS, Metric, Summary
from training.stages.planning import ParentRole, Situation, StagePlan, present


def plan(now: Situation) -> StagePlan:
    """A policy that this round makes is measured where there are held-out prompts."""
    if not now.is_policy_new:
        reason = gettext("No new policy to evaluate.")
    elif not now.labels.heldout_prompts:
        reason = gettext("There are no held-out prompts.")
    else:
        reason = ""
    # A new SFT is its own reference; what it is to be compared with is what it came from.
    reference = now.base if now.policy == now.sft else now.sft
    is_other = now.policy_parent != reference  # PPO that started from the champion
    parents = present(
        {
            ParentRole.POLICY: now.policy,
            ParentRole.REFERENCE: reference,
            ParentRole.REWARD: now.reward,
            ParentRole.WATCHER: now.watcher,
            ParentRole.PARENT: now.policy_parent if is_other else None,
        }
    )
    counts = {"heldout_prompts": now.labels.heldout_prompts, "heldout_rankings": now.labels.heldout_rankings}
    return StagePlan(stage=Stage.EVALUATION, reason=reason, parents=parents, counts=counts)


Measurement = partial(Metric, summary=Summary.ONCE)  # of the finished models, not of a step

METRICS = {
    "watcher/win_rate": Measurement(
        label=_("win rate vs. reference, by the independent judge"),
        meaning=_("How often a model that the policy was not trained on prefers its answer to the reference's."),
        healthy=_("Over 50%."),
        is_share=True,
        low=0.5,
        high=1.0,
    ),
    "proxy/win_rate": Measurement(
        label=_("proxy win rate vs. reference"),
        meaning=_("How often the reward model (not a person) prefers the policy's answer to the reference's."),
        healthy=_("Over 50%."),
        is_share=True,
        low=0.5,
        high=1.0,
    ),
    "heldout/reward_accuracy": Measurement(
        label=_("reward accuracy on held-out rankings"),
        meaning=_("How often the reward model agrees with people on prompts it has never seen."),
        healthy=_("65% to 80%. Higher than people agree with each other is suspicious."),
        is_share=True,
        low=0.65,
        high=0.8,
    ),
    "heldout/watcher_accuracy": Measurement(
        label=_("independent judge's accuracy on held-out rankings"),
        meaning=_("How often the independent judge agrees with people on prompts it has never seen."),
        healthy=_("60% to 80%. It has fewer rankings to learn from than the reward model."),
        is_share=True,
        low=0.6,
        high=0.8,
    ),
    "heldout/reward_match": Measurement(
        label=_("reward model prefers answers to the prompt"),
        meaning=_(
            "How often the reward model gives an answer a higher score than the policy's answer to another held-out "
            "prompt. Where it hardly reads the prompt, PPO learns answers that it likes whatever was asked."
        ),
        healthy=_("Above 80%. If lower, collect more rankings or raise “answers to other prompts” in the settings."),
        is_share=True,
        low=0.8,
    ),
    "heldout/watcher_match": Measurement(
        label=_("independent judge prefers answers to the prompt"),
        meaning=_(
            "How often the independent judge gives an answer a higher score than the policy's answer to another "
            "held-out prompt."
        ),
        healthy=_("Above 80%. It has fewer rankings to learn from than the reward model."),
        is_share=True,
        low=0.8,
    ),
    "heldout/kl": Measurement(
        label=_("KL on held-out prompts"),
        unit=_("nats per answer"),
        meaning=_("How far the policy's answers to held-out prompts have moved from the reference."),
        healthy=_("Above 0.3 the policy has learned. It may exceed PPO's KL limit, which is for training prompts."),
        low=0.3,
    ),
    "heldout/length": Measurement(
        label=_("length on held-out prompts"),
        unit=TOKENS,
        meaning=_("Average length of an answer to a held-out prompt."),
        healthy=_("Within a third of the reference's length."),
    ),
    "heldout/reference_length": Measurement(
        label=_("reference length on held-out prompts"),
        unit=TOKENS,
        meaning=_("Average length of the reference's answers to the same prompts."),
        healthy=_("The baseline for the policy's length."),
    ),
    "heldout/stop_rate": Measurement(
        label=_("stop rate on held-out prompts"),
        meaning=_("Share of answers to held-out prompts that ended before the length limit."),
        healthy=_("Over 95%."),
        is_share=True,
        low=STOP_RATE_FLOOR,
        high=1.0,
    ),
    "heldout/reference_stop_rate": Measurement(
        label=_("reference stop rate on held-out prompts"),
        meaning=_("Share of the reference's answers to the same prompts that ended before the length limit."),
        healthy=_("The baseline for the policy's value."),
        is_share=True,
    ),
    "heldout/entropy": Measurement(
        label=_("entropy on held-out prompts"),
        unit=PER_TOKEN,
        meaning=_("How varied the policy's choice of the next token still is on held-out prompts."),
        healthy=_("Not far below the SFT model's."),
    ),
    "proxy/reward": Measurement(
        label=_("reward on held-out prompts"),
        unit=_("σ"),
        meaning=_("Average score the reward model (not a person) gives the policy's answers."),
        healthy=_("Above the reference's."),
    ),
    "proxy/reference_reward": Measurement(
        label=_("reference reward on held-out prompts"),
        unit=_("σ"),
        meaning=_("Average score the reward model gives the reference's answers to the same prompts."),
        healthy=_("The baseline for the policy's value."),
    ),
    "watcher/reward": Measurement(
        label=_("independent judge's score"),
        unit=_("σ"),
        meaning=_("Average score the independent judge gives the policy's answers to held-out prompts."),
        healthy=_("Above the reference's."),
    ),
    "watcher/reference_reward": Measurement(
        label=_("independent judge's score of the reference"),
        unit=_("σ"),
        meaning=_("Average score the independent judge gives the reference's answers to the same prompts."),
        healthy=_("The baseline for the policy's value."),
    ),
    "heldout/reward_pairs": Measurement(
        label=_("held-out pairs"),
        unit=_("pairs"),
        meaning=_("Number of answer pairs the accuracy was measured on."),
        healthy=_("A few hundred. Fewer give a wide interval."),
    ),
    "heldout/reward_ties": Measurement(
        label=_("held-out ties"),
        unit=_("pairs"),
        meaning=_("Pairs people ranked equally. They do not count towards the accuracy."),
        healthy=_("No target: it depends on the answers."),
    ),
}
# The accuracy by ranks apart, and by the round that wrote the answers.
NUMBERED = {
    prefix: replace(METRICS["heldout/reward_accuracy"], label=label)
    for prefix, label in {
        "heldout/reward_accuracy_gap_": ngettext_lazy(
            "reward accuracy, %(number)d rank apart", "reward accuracy, %(number)d ranks apart", "number"
        ),
        "heldout/reward_accuracy_round_": _("reward accuracy on answers of round %(number)d"),
    }.items()
}

EVALUATION = StageDefinition(
    name=Stage.EVALUATION,
    label=_("evaluation"),
    short_label=_("Evaluate"),
    purpose=_("The new policy and its reference answer the held-out prompts."),
    config=EvaluationConfig,
    data=("heldout_prompts", "heldout_rankings"),
    makes=Makes.MEASUREMENTS,
    roles={ParentRole.PARENT: _("compared with")},
    plan=plan,
    work=ngettext_lazy("%(number)d prompt", "%(number)d prompts", "number"),
    counts=("heldout_prompts",),
    metrics=METRICS,
    numbered_metrics=NUMBERED,
    shown_metrics=(
        "watcher/win_rate",
        "proxy/win_rate",
        "heldout/reward_accuracy",
        "heldout/watcher_accuracy",
        "heldout/reward_match",
        "heldout/watcher_match",
        "heldout/kl",
        "heldout/length",
        "heldout/reference_length",
        "heldout/stop_rate",
    ),
)
