"""Step 3 of three: PPO moves the policy toward what the reward model prefers."""

from __future__ import annotations

from django.utils.translation import gettext, ngettext_lazy
from django.utils.translation import gettext_lazy as _

from training.rlhf.config import PPOConfig
from training.stages.definition import Makes, Stage, StageDefinition
from training.stages.metric import FALLS, PER_TOKEN, SKIPPED_STEPS, STOP_RATE_FLOOR, TOKENS, Metric, Summary
from training.stages.planning import ParentRole, Situation, StagePlan, present
from training.stages.remedies import Rule


def plan(now: Situation) -> StagePlan:
    """PPO follows a new reward model, from the newest SFT, or from the champion where the project wants that.

    It is watched where this round makes a watcher, too: an older one has seen other rankings and another SFT.
    """
    if not now.makes_here(Stage.REWARD):
        reason = gettext("There is no new reward model to train against.")
    elif not now.labels.train_prompts:
        reason = gettext("There are no training prompts.")
    else:
        reason = ""
    parents = present(
        {
            ParentRole.POLICY: now.ppo_champion or now.sft,
            ParentRole.REFERENCE: now.sft,
            ParentRole.REWARD: now.made_by(Stage.REWARD),
            ParentRole.WATCHER: now.made_by(Stage.WATCHER) if now.makes_here(Stage.WATCHER) else None,
        }
    )
    return StagePlan(stage=Stage.PPO, reason=reason, parents=parents, counts={"prompts": now.labels.train_prompts})


METRICS = {
    "gauge/watcher": Metric(
        summary=Summary.LAST,
        label=_("independent judge"),
        unit="σ",
        meaning=_("Average score from a reward model that PPO does not climb, for answers to the same prompts."),
        healthy=_("Rises, then levels off. If it falls while the reward still rises, PPO exploits the reward model."),
    ),
    "gauge/reward": Metric(
        summary=Summary.LAST,
        label=_("reward on the judge's prompts"),
        unit="σ",
        meaning=_("Average score the reward model gives the answers that the independent judge scores."),
        healthy=_("Rises with the independent judge's score."),
    ),
    "gauge/kl": Metric(
        summary=Summary.LAST,
        label=_("KL on the judge's prompts"),
        unit=_("nats per answer"),
        meaning=_("How far the policy's answers to the judge's prompts have moved from the SFT model's."),
        healthy=_("Rises. Compare the judge's score at equal KL."),
    ),
    "gauge/length": Metric(
        summary=Summary.LAST,
        label=_("length on the judge's prompts"),
        unit=TOKENS,
        meaning=_("Average length of the answers that the independent judge scores."),
        healthy=_("Steady. If it rises with the reward and not with the judge, length is being rewarded."),
    ),
    "gauge/stop_rate": Metric(
        summary=Summary.LAST,
        label=_("stop rate on the judge's prompts"),
        meaning=_("Share of the answers the independent judge scores that ended before the length limit."),
        healthy=_("Over 95%."),
        is_share=True,
        low=STOP_RATE_FLOOR,
        high=1.0,
    ),
    "gauge/trial_win_rate": Metric(
        summary=Summary.ONCE,  # before the first step
        label=_("trial of the reward"),
        meaning=_("How often the independent judge prefers, of several answers, the one the reward model picks."),
        healthy=_("Over 55%. PPO begins only where it is certainly over 50%."),
        is_share=True,
        low=0.55,
        high=1.0,
    ),
    "gauge/best_step": Metric(
        summary=Summary.ONCE,  # which each measurement says anew, and the last one for good
        label=_("step the judge likes best"),
        meaning=_("Step after which the independent judge's score was highest. That policy is published."),
        healthy=_("No target: it depends on the labels."),
    ),
    "rollout/reward": Metric(
        label=_("reward"),
        unit="σ",
        meaning=_("Average score the reward model gives this step's answers. People may disagree."),
        healthy=_("Rises, then levels off. A steady rise together with a large KL suggests reward hacking."),
    ),
    "rollout/kl": Metric(
        label=_("KL from the reference"),
        unit=_("nats per answer"),
        meaning=_("How far the policy's answers have moved from the SFT model's."),
        healthy=_("Above 0.3 the policy is learning. PPO stops when it reaches the run's KL limit."),
        low=0.3,
        high=10.0,
        high_setting="kl_limit",
    ),
    "rollout/final_kl": Metric(
        label=_("KL of the final policy"),
        unit=_("nats per answer"),
        meaning=_("How far the final policy's answers have moved from the SFT model's, on training prompts."),
        healthy=_("As for the steps before. Above the run's KL limit, the policy of the previous step is used."),
        summary=Summary.ONCE,
        low=0.3,
        high=10.0,
    ),
    "rollout/length": Metric(
        label=_("length"),
        unit=TOKENS,
        meaning=_("Average length of an answer."),
        healthy=_(
            "Within a third of its starting value. If it rises with the reward, the policy may be exploiting length."
        ),
    ),
    "rollout/stop_rate": Metric(
        label=_("stop rate"),
        meaning=_("Share of answers that ended before the length limit."),
        healthy=_("Over 95%."),
        is_share=True,
        low=STOP_RATE_FLOOR,
        high=1.0,
    ),
    "rollout/entropy": Metric(
        label=_("entropy"),
        unit=PER_TOKEN,
        meaning=_("How varied the policy's choice of the next token still is."),
        healthy=_("Falls slowly and stays above half of its starting value."),
    ),
    "rollout/sampler_gap": Metric(
        label=_("sampler gap"),
        meaning=_("How much token probabilities differ between sampling an answer and training on it."),
        healthy=_("Under 1%. Over 2% indicates a numerical problem."),
        is_share=True,
        low=0.0,
        high=0.01,
    ),
    "rollout/noncanonical": Metric(
        label=_("non-canonical answers"),
        unit=_("answers per step"),
        meaning=_("Answers whose text the tokenizer would split differently from what the policy sampled."),
        healthy=_("Few, and not rising from step to step."),
    ),
    "policy/loss": Metric(
        label=_("policy loss"),
        meaning=_("The objective PPO minimises. It says little on its own."),
        healthy=_("Small, around 0, without jumps."),
    ),
    "policy/approx_kl": Metric(
        label=_("approximate KL of updates"),
        unit=PER_TOKEN,
        meaning=_("How far the updates move the policy from the one that sampled the answers."),
        healthy=_("Up to 0.03. More means the learning rate is too high."),
        low=0.0,
        high=0.03,
    ),
    "policy/clip_fraction": Metric(
        label=_("clip fraction"),
        meaning=_("Share of tokens whose probability ratio was clipped."),
        healthy=_("Up to 20%. More means the learning rate is too high."),
        is_share=True,
        low=0.0,
        high=0.2,
    ),
    "policy/grad_norm": Metric(
        label=_("gradient norm"),
        meaning=_("Size of the policy's gradient, before clipping."),
        healthy=_("Steady, without sudden peaks."),
    ),
    "policy/ptx_loss": Metric(
        label=_("loss on demonstrations"),
        unit=PER_TOKEN,
        meaning=_("How surprised the policy is by the demonstrations mixed into its updates."),
        healthy=_("Steady or falling. If it rises, the mix is too weak to keep what SFT taught."),
    ),
    "policy/beta": Metric(
        label=_("KL coefficient"),
        unit=_("σ per nat"),
        meaning=_("Reward subtracted per nat of KL, as adapted to the KL target."),
        healthy=_("Settles. A steady rise or fall means the target is far from what the reward leads to."),
    ),
    "value/loss": Metric(
        label=_("value loss"),
        meaning=_("How far the critic's estimate of the future reward is off."),
        healthy=FALLS,
    ),
    "value/explained_variance": Metric(
        label=_("explained variance"),
        meaning=_("Share of the variation in returns the critic predicts."),
        healthy=_("Above 0% at first, later 30% to 90%."),
        is_share=True,
        low=0.0,
        high=1.0,
    ),
    "skipped_steps": SKIPPED_STEPS,
}
FAILURES = {
    "no_sample": Rule(
        _("No samples were kept for that step."),
        _("Choose a step that has samples."),
    ),
    "reward_not_confirmed": Rule(
        _("The independent judge does not prefer what the reward model picks."),
        _(
            "Training against this reward would teach nothing people like. Collect more rankings, or check "
            "whether people agree with each other. To train all the same, copy the run and set trial_answers to 0."
        ),
        settings=("trial_answers",),
    ),
}

PPO = StageDefinition(
    name=Stage.PPO,
    label=_("PPO"),
    short_label=_("PPO"),
    purpose=_("Moves the policy towards what people prefer, while keeping it close to the SFT model."),
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
    data=("prompts", "demonstrations"),  # these only where they are mixed in
    makes=Makes.POLICY,
    kind="ppo",
    plan=plan,
    work=ngettext_lazy("%(number)d prompt", "%(number)d prompts", "number"),
    counts=("prompts",),
    weights_on_disk=19,
    failures=FAILURES,
    metrics=METRICS,
    shown_metrics=(
        "gauge/watcher",
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
        "policy/ptx_loss",
        "policy/beta",
        "gauge/reward",
        "gauge/kl",
        "gauge/length",
        "gauge/stop_rate",
        "gauge/best_step",
        "gauge/trial_win_rate",
    ),
)
