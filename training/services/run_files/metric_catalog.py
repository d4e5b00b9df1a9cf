"""What the engine's metrics are called for people: a plain name, what it means, and where it should lie.

The healthy bands are starting points, from what published runs report and from our own; a value outside is a reason
to look at the samples and decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext, ngettext_lazy
from django.utils.translation import gettext_lazy as _

from training.models import Stage
from training.services.run_files.number_format import number, percent

Words = str | Promise


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric as a page shows it. A band may be open at one end; without one `healthy` says what to expect."""

    label: Words
    meaning: Words
    healthy: Words
    unit: Words = ""
    is_share: bool = False  # shown as a percentage
    low: float | None = None
    high: float | None = None

    def show(self, value: float) -> str:
        """`value` as people read it, without the unit."""
        return percent(value) if self.is_share else number(value)

    @property
    def has_band(self) -> bool:
        return self.low is not None or self.high is not None

    @property
    def band(self) -> str:
        """The healthy band in words; empty where there is none."""
        ends = {"low": self.low, "high": self.high}
        shown = {end: self.show(value) for end, value in ends.items() if value is not None}
        if shown and self.low == self.high:
            return gettext("healthy is %(low)s") % shown
        if len(shown) == len(ends):
            return gettext("healthy %(low)s to %(high)s") % shown
        if shown:
            return (gettext("healthy above %(low)s") if "low" in shown else gettext("healthy below %(high)s")) % shown
        return ""

    def is_outside(self, value: float) -> bool:
        """Whether `value` lies outside the healthy band."""
        return (self.low is not None and value < self.low) or (self.high is not None and value > self.high)


STOP_RATE_FLOOR = 0.95
PER_TOKEN = _("nats per token")
TOKENS = _("tokens")
FALLS = _("It falls quickly at first and then levels off.")

METRICS: dict[str, Metric] = {
    "pretraining/loss": Metric(
        label=_("loss"),
        unit=PER_TOKEN,
        meaning=_("How much each next piece of text surprises the model."),
        healthy=FALLS,
    ),
    "sft/loss": Metric(
        label=_("loss"),
        unit=PER_TOKEN,
        meaning=_("How much people's answers surprise the model, token by token."),
        healthy=_("It falls and levels off above 0.1; below that the answers are learnt by heart."),
        low=0.1,
    ),
    "reward/accuracy": Metric(
        label=_("agreement with the rankings"),
        meaning=_("How often the better-placed answer of a pair gets the higher score."),
        healthy=_("60% to 85%: one half is guessing, and much more than people agree among themselves is overfitting."),
        is_share=True,
        low=0.6,
        high=0.85,
    ),
    "reward/loss": Metric(
        label=_("loss"),
        unit=_("nats"),
        meaning=_("How sure the reward model is of the wrong answer, on average over the pairs."),
        healthy=_("0.35 to 0.69: guessing is 0.69."),
        low=0.35,
        high=0.69,
    ),
    "rollout/reward": Metric(
        label=_("reward"),
        unit="σ",
        meaning=_("What the reward model thinks of the answers of this step; people may think otherwise."),
        healthy=_("It rises and then levels off. A steady rise with a large distance means that it is being fooled."),
    ),
    "rollout/kl": Metric(
        label=_("distance from the reference (KL)"),
        unit=_("nats per answer"),
        meaning=_("How far the policy's answers have moved away from those of the SFT model."),
        healthy=_("Above 0.3 something is learnt; at the run's limit PPO stops by itself."),
        low=0.3,
        high=10.0,  # the run's own kl_limit takes its place: see `look_up`
    ),
    "rollout/final_kl": Metric(
        label=_("distance of the result (KL)"),
        unit=_("nats per answer"),
        meaning=_("How far the answers of the finished policy have moved, on prompts that it is trained on."),
        healthy=_("As for the steps before; beyond the run's limit the policy of the step before is taken."),
        low=0.3,
        high=10.0,
    ),
    "rollout/length": Metric(
        label=_("length"),
        unit=TOKENS,
        meaning=_("How long an answer is on average."),
        healthy=_("Within a third of where it began. Length that rises with the reward is a shortcut."),
    ),
    "rollout/stop_rate": Metric(
        label=_("answers that end by themselves"),
        meaning=_("The share of answers that came to an end before they ran out of room."),
        healthy=_("Over 95%."),
        is_share=True,
        low=STOP_RATE_FLOOR,
        high=1.0,
    ),
    "rollout/entropy": Metric(
        label=_("entropy"),
        unit=PER_TOKEN,
        meaning=_("How many ways of going on the policy still considers at each token."),
        healthy=_("It falls slowly and keeps more than half of where it began."),
    ),
    "rollout/sampler_gap": Metric(
        label=_("gap between sampler and trainer"),
        meaning=_("How much the probabilities differ between writing an answer and learning from it."),
        healthy=_("Under 1%; over 2% something computes wrongly."),
        is_share=True,
        low=0.0,
        high=0.01,
    ),
    "rollout/noncanonical": Metric(
        label=_("answers in unusual tokens"),
        meaning=_("Answers whose text would be cut into other tokens than the policy wrote."),
        healthy=_("Few, and not more with every step."),
    ),
    "policy/loss": Metric(
        label=_("policy loss"),
        meaning=_("What the policy's update makes smaller. It says little by itself."),
        healthy=_("Small, around zero, without jumps."),
    ),
    "policy/approx_kl": Metric(
        label=_("size of an update"),
        unit=PER_TOKEN,
        meaning=_("How far one step moves the policy from the one that wrote the answers."),
        healthy=_("Up to 0.03: more means that the learning rate is too high."),
        low=0.0,
        high=0.03,
    ),
    "policy/clip_fraction": Metric(
        label=_("clipped updates"),
        meaning=_("The share of tokens whose probability wanted to move further than one step may move it."),
        healthy=_("Up to 20%: more means that the learning rate is too high."),
        is_share=True,
        low=0.0,
        high=0.2,
    ),
    "policy/grad_norm": Metric(
        label=_("gradient"),
        meaning=_("How strongly one step pulls at the weights, before it is limited."),
        healthy=_("Steady, without sudden peaks."),
    ),
    "value/loss": Metric(
        label=_("critic's loss"),
        meaning=_("How far the critic's guess of the reward to come is off."),
        healthy=FALLS,
    ),
    "value/explained_variance": Metric(
        label=_("variance that the critic explains"),
        meaning=_("How much of the difference between answers the critic foresees."),
        healthy=_("Above 0%, later 30% to 90%."),
        is_share=True,
        low=0.0,
        high=1.0,
    ),
    "skipped_steps": Metric(
        label=_("skipped steps"),
        meaning=_("Steps that were left out because their numbers were not finite."),
        healthy=_("None."),
        low=0.0,
        high=0.0,
    ),
    "proxy/win_rate": Metric(
        label=_("proxy win rate against the reference"),
        meaning=_("How often the reward model, which is not a person, prefers the policy's answer."),
        healthy=_("Over 50%."),
        is_share=True,
        low=0.5,
        high=1.0,
    ),
    "heldout/reward_accuracy": Metric(
        label=_("reward accuracy on held-out rankings"),
        meaning=_("How often the reward model agrees with people on prompts that it has never seen."),
        healthy=_("65% to 80%; more than people agree among themselves is too good to be true."),
        is_share=True,
        low=0.65,
        high=0.8,
    ),
    "heldout/kl": Metric(
        label=_("distance on held-out prompts (KL)"),
        unit=_("nats per answer"),
        meaning=_("How far the policy's answers to held-out prompts have moved away from the reference."),
        healthy=_("0.3 to 10."),
        low=0.3,
        high=10.0,
    ),
    "heldout/length": Metric(
        label=_("length on held-out prompts"),
        unit=TOKENS,
        meaning=_("How long an answer to a held-out prompt is on average."),
        healthy=_("Within a third of the reference."),
    ),
    "heldout/reference_length": Metric(
        label=_("length of the reference there"),
        unit=TOKENS,
        meaning=_("How long the reference's answers to the same prompts are."),
        healthy=_("The measure for the policy's own length."),
    ),
    "heldout/stop_rate": Metric(
        label=_("held-out answers that end by themselves"),
        meaning=_("The share of held-out answers that came to an end before they ran out of room."),
        healthy=_("Over 95%."),
        is_share=True,
        low=STOP_RATE_FLOOR,
        high=1.0,
    ),
    "heldout/reference_stop_rate": Metric(
        label=_("those of the reference that do"),
        meaning=_("The share of the reference's answers to the same prompts that came to an end."),
        healthy=_("The measure for the policy's own."),
        is_share=True,
    ),
    "heldout/entropy": Metric(
        label=_("entropy on held-out prompts"),
        unit=PER_TOKEN,
        meaning=_("How many ways of going on the policy still considers there."),
        healthy=_("Not far below that of the SFT model."),
    ),
    "proxy/reward": Metric(
        label=_("reward on held-out prompts"),
        unit=_("σ"),
        meaning=_("What the reward model, which is not a person, thinks of the policy's answers there."),
        healthy=_("Above the reference's."),
    ),
    "proxy/reference_reward": Metric(
        label=_("reward of the reference there"),
        unit=_("σ"),
        meaning=_("What the reward model thinks of the reference's answers to the same prompts."),
        healthy=_("The measure for the policy's own."),
    ),
    "heldout/reward_pairs": Metric(
        label=_("held-out pairs"),
        meaning=_("On how many pairs of answers the accuracy was measured."),
        healthy=_("A few hundred: fewer make a wide interval."),
    ),
    "heldout/reward_ties": Metric(
        label=_("held-out ties"),
        meaning=_("Pairs that people placed equally; they are not in the accuracy."),
        healthy=_("As people find them."),
    ),
    "sampling/slates": Metric(
        label=_("sets of answers"),
        meaning=_("How many prompts got enough different answers to be ranked."),
        healthy=_("As many as were planned."),
    ),
    "sampling/completions": Metric(
        label=_("answers"),
        meaning=_("How many answers stand in these sets; where a policy repeats itself, a set holds fewer."),
        healthy=_("As many as were planned for each set."),
    ),
}

# What a person wants to see first stands first; metrics that are named nowhere here are in the file only.
SHOWN_METRICS: dict[str, tuple[str, ...]] = {
    Stage.PRETRAINING: ("pretraining/loss", "skipped_steps"),
    Stage.SFT: ("sft/loss", "skipped_steps"),
    Stage.REWARD: ("reward/accuracy", "reward/loss", "skipped_steps"),
    Stage.PPO: (
        "rollout/reward",
        "rollout/kl",
        "rollout/length",
        "rollout/stop_rate",
        "rollout/entropy",
        "policy/clip_fraction",
        "value/explained_variance",
        "skipped_steps",
        "policy/approx_kl",
        "policy/grad_norm",
        "policy/loss",
        "value/loss",
        "rollout/sampler_gap",
        "rollout/noncanonical",
    ),
    Stage.EVALUATION: (
        "proxy/win_rate",
        "heldout/reward_accuracy",
        "heldout/kl",
        "heldout/length",
        "heldout/reference_length",
        "heldout/stop_rate",
    ),
    Stage.SAMPLING: ("sampling/slates", "sampling/completions"),
}
# What was made of the records, measured once before the first step.
DATASET_METRICS: dict[str, Words] = {
    "data/used": _("records used"),
    "data/pairs": _("pairs of answers to learn from"),
    "data/too_long": _("left out: the prompt is too long for the model"),
    "data/refused": _("left out: the model's chat template refuses the prompt"),
    "data/tied": _("left out: nobody preferred one answer to another"),
    "data/cut": _("cut at the longest answer"),
}
# Metrics that carry a number in their name: the accuracy by ranks apart, and by the round that wrote the answers.
NUMBERED: dict[str, Words] = {
    "heldout/reward_accuracy_gap_": ngettext_lazy(
        "reward accuracy, %(number)d rank apart", "reward accuracy, %(number)d ranks apart", "number"
    ),
    "heldout/reward_accuracy_round_": _("reward accuracy on answers of round %(number)d"),
}
READINGS = 8  # how many of a stage, from the first, are shown on the page of its round


def look_up(name: str, config: Mapping[str, Any]) -> Metric:
    """The metric `name` as it is meant in a run with `config`, which says how far a policy may go."""
    metric = METRICS[name]
    return replace(metric, high=config.get("kl_limit", metric.high)) if name == "rollout/kl" else metric
