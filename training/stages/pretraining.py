"""The built-in tiny base model, made from its corpus; it belongs to no round."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from training.rlhf.config import PretrainingConfig
from training.stages.definition import Makes, Stage, StageDefinition
from training.stages.metric import FALLS, PER_TOKEN, SKIPPED_STEPS, Metric

METRICS = {
    "pretraining/loss": Metric(
        label=_("loss"),
        unit=PER_TOKEN,
        meaning=_("How poorly the model predicts the next token of its corpus."),
        healthy=FALLS,
    ),
    "skipped_steps": SKIPPED_STEPS,
}

PRETRAINING = StageDefinition(
    name=Stage.PRETRAINING,
    label=_("pretraining"),
    purpose=_("Trains the built-in tiny base model. People can answer prompts in the meantime."),
    config=PretrainingConfig,
    main_settings=("tokens", "learning_rate", "batch_size"),
    makes=Makes.POLICY,
    kind="base",
    kind_label=_("base model"),
    metrics=METRICS,
    shown_metrics=("pretraining/loss", "skipped_steps"),
)
