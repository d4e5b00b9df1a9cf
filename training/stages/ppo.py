"""Step 3 of three: PPO moves the policy toward what the reward model prefers."""

from __future__ import annotations

from django.utils.translation import gettext, ngettext_lazy
from django.utils.translation import gettext_lazy as _

from training.rlhf.config import PPOConfig
from training.stages.definition import Makes, Stage, StageDefinition
from training.stages.metric import FALLS, PER_TOKEN, SKIPPED_STEPS, STOP_RATE_FLOOR, TOKENS, Metric, Summary
from training.stages.planning import ParentRole, PlannedParent, Situation, StagePlan
from training.stages.remedies import Rule


def plan(now: Situation) -> StagePlan:
    """PPO follows a new reward model, from the newest SFT, or from the champion where the project wants that."""
    if not now.makes_here(Stage.REWARD):
        reason = gettext("There is no new reward model to follow.")
    elif not now.labels.train_prompts:
        reason = gettext("There are no training prompts.")
    else:
        reason = ""
    parents: dict[str, PlannedParent] = {
        ParentRole.POLICY: now.ppo_champion or now.sft,
        ParentRole.REFERENCE: now.sft,
        ParentRole.REWARD: now.made_by(Stage.REWARD),
    }
    return StagePlan(stage=Stage.PPO, reason=reason, parents=parents, counts={"prompts": now.labels.train_prompts})


METRICS = {
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
        high=10.0,
        high_setting="kl_limit",
    ),
    "rollout/final_kl": Metric(
        label=_("distance of the result (KL)"),
        unit=_("nats per answer"),
        meaning=_("How far the answers of the finished policy have moved, on prompts that it is trained on."),
        healthy=_("As for the steps before; beyond the run's limit the policy of the step before is taken."),
        summary=Summary.ONCE,
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
        unit=_("answers per step"),
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
    "skipped_steps": SKIPPED_STEPS,
}
FAILURES = {
    "no_sample": Rule(
        _("No samples of that step were kept."),
        _("Choose a step of the run that has some."),
    ),
}

PPO = StageDefinition(
    name=Stage.PPO,
    label=_("PPO"),
    short_label=_("PPO"),
    purpose=_("The policy is pushed toward what people preferred, while it stays near SFT."),
    config=PPOConfig,
    main_settings=(
        "iterations",
        "learning_rate",
        "beta",
        "kl_limit",
        "rollout_size",
        "minibatch_size",
        "max_response",
        "batch_tokens",
    ),
    data=("prompts",),
    makes=Makes.POLICY,
    kind="ppo",
    plan=plan,
    work=ngettext_lazy("%(number)d prompt", "%(number)d prompts", "number"),
    counts=("prompts",),
    weights_on_disk=19,
    failures=FAILURES,
    metrics=METRICS,
    shown_metrics=(
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
)
