"""Step 2 of three: a reward model, trained on how people ranked."""

from __future__ import annotations

from django.utils.translation import gettext, ngettext, ngettext_lazy
from django.utils.translation import gettext_lazy as _

from training.rlhf.config import RewardConfig
from training.stages.definition import Makes, Stage, StageDefinition
from training.stages.metric import SKIPPED_STEPS, Metric
from training.stages.planning import ParentRole, Situation, StagePlan
from training.stages.remedies import Remedy, Rule


def plan(now: Situation) -> StagePlan:
    """A reward model is trained where enough rankings are newer than the last one."""
    labels, minimum = now.labels, now.minima["rankings"]
    new_rankings = labels.new_rankings + labels.new_watcher_rankings  # both take part in the round
    if not labels.rankings:
        reason = gettext("No rankings yet.")
    elif new_rankings < minimum:
        reason = ngettext(
            "%(number)d new ranking is fewer than the minimum of %(minimum)d.",
            "%(number)d new rankings are fewer than the minimum of %(minimum)d.",
            new_rankings,
        ) % {"number": new_rankings, "minimum": minimum}
    elif labels.tied_rankings == labels.rankings:
        reason = gettext("Every ranking is a tie, so there are no preferences to learn from.")
    else:
        reason = ""
    counts = {
        "rankings": labels.rankings,
        "new_rankings": labels.new_rankings,
        "tied_rankings": labels.tied_rankings,
    }
    return StagePlan(stage=Stage.REWARD, reason=reason, parents={ParentRole.POLICY: now.sft}, counts=counts)


METRICS = {
    "reward/accuracy": Metric(
        label=_("agreement with rankings"),
        meaning=_("How often the higher-ranked answer of a pair gets the higher score."),
        healthy=_(
            "60% to 85% in the first epoch; 50% is guessing. Later epochs know the rankings by heart: the accuracy on "
            "held-out rankings, in the evaluation, says what was learned."
        ),
        is_share=True,
        low=0.6,
        high=0.85,
        first_epoch_end="high",
    ),
    "reward/loss": Metric(
        label=_("loss"),
        unit=_("nats"),
        meaning=_("Log loss of predicting which answer of a pair people prefer."),
        healthy=_("0.35 to 0.69 in the first epoch, less in later ones. Guessing gives 0.69."),
        low=0.35,
        high=0.69,
        first_epoch_end="low",
    ),
    "reward/match": Metric(
        label=_("prefers answers to the prompt"),
        meaning=_("How often the best answer of a set gets a higher score than a good answer to another prompt."),
        healthy=_("Above 90% at the end. 50% means that the score hardly depends on the prompt."),
        is_share=True,
        low=0.9,
    ),
    "skipped_steps": SKIPPED_STEPS,
}
FAILURES = {
    "all_tied": Rule(
        _("No ranking prefers one answer to another."),
        _(
            "There is nothing to learn from ties. Ask people to rank answers differently where "
            "they differ, then start a new round."
        ),
        Remedy.GUIDELINES,
    ),
    "answers_alike": Rule(
        _("The reward model gives all ranked answers the same score."),
        _("If the answers do differ, copy the run and try another learning rate."),
        settings=("learning_rate",),
    ),
}

REWARD = StageDefinition(
    name=Stage.REWARD,
    label=_("reward model"),
    short_label=_("Reward"),
    purpose=_("Trains a model on people's rankings to predict which answer they prefer."),
    config=RewardConfig,
    main_settings=("learning_rate", "epochs", "batch_size", "max_response", "batch_tokens"),
    data=("rankings", "demonstrations"),
    makes=Makes.REWARD_MODEL,
    kind="reward",
    plan=plan,
    work=ngettext_lazy("%(number)d ranking", "%(number)d rankings", "number"),
    counts=("rankings",),
    weights_on_disk=10,
    failures=FAILURES,
    metrics=METRICS,
    shown_metrics=("reward/accuracy", "reward/loss", "reward/match", "skipped_steps"),
)
