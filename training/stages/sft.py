"""Step 1 of three: supervised fine-tuning of the base model on what people wrote."""

from __future__ import annotations

from django.utils.translation import gettext, ngettext, ngettext_lazy
from django.utils.translation import gettext_lazy as _

from training.rlhf.config import SFTConfig
from training.stages.definition import Makes, Stage, StageDefinition
from training.stages.metric import PER_TOKEN, SKIPPED_STEPS, Metric
from training.stages.planning import ParentRole, Situation, StagePlan


def plan(now: Situation) -> StagePlan:
    """SFT runs where there are demonstrations that no SFT has learned from."""
    labels, minimum = now.labels, now.minima["demonstrations"]
    if not labels.demonstrations:
        reason = gettext("No answers have been written yet.")
    elif not labels.new_demonstrations:
        reason = gettext("There are no new answers since %(model)s was trained.") % {"model": now.sft.name}
    elif now.sft == now.base and labels.demonstrations < minimum:
        reason = ngettext(
            "%(number)d answer is fewer than the minimum of %(minimum)d.",
            "%(number)d answers are fewer than the minimum of %(minimum)d.",
            labels.demonstrations,
        ) % {"number": labels.demonstrations, "minimum": minimum}
    else:
        reason = ""
    counts = {"demonstrations": labels.demonstrations, "new_demonstrations": labels.new_demonstrations}
    return StagePlan(stage=Stage.SFT, reason=reason, parents={ParentRole.BASE: now.base}, counts=counts)


METRICS = {
    "sft/loss": Metric(
        label=_("loss"),
        unit=PER_TOKEN,
        meaning=_("How poorly the model predicts people's answers, token by token."),
        healthy=_("Falls and levels off above 0.1. Below that, the model is memorising the answers."),
        low=0.1,
    ),
    "skipped_steps": SKIPPED_STEPS,
}

SFT = StageDefinition(
    name=Stage.SFT,
    label=_("SFT"),
    short_label=_("SFT"),
    purpose=_("Fine-tunes the base model on answers people wrote."),
    config=SFTConfig,
    main_settings=("learning_rate", "epochs", "batch_size", "max_response", "batch_tokens"),
    data=("demonstrations",),
    makes=Makes.POLICY,
    kind="sft",
    starts_from=ParentRole.BASE,
    plan=plan,
    work=ngettext_lazy("%(number)d answer", "%(number)d answers", "number"),
    counts=("demonstrations",),
    weights_on_disk=10,
    metrics=METRICS,
    shown_metrics=("sft/loss", "skipped_steps"),
)
