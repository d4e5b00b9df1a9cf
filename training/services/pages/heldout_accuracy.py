"""The accuracy of a reward model on held-out rankings, for the page of the run that trained it.

The run itself cannot measure it: the evaluation of the same round does, on prompts that the model has never seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from training import stages
from training.models import Run
from training.services.pages.outcome import FIGURES
from training.services.planning import plans, stage_states
from training.services.run_files import summaries
from training.services.running.results import wilson
from training.stages import Stage
from training.stages.metric import Metric

ACCURACY, PAIRS = "heldout/reward_accuracy", "heldout/reward_pairs"


@dataclass(frozen=True, kw_only=True)
class HeldoutAccuracy:
    """The accuracy with its interval, or in a sentence when it comes, or why it does not."""

    evaluation: Run | None  # that measured it, or will
    sentence: str = ""  # where there is no accuracy
    value: str = ""
    is_outside: bool = False
    pairs: int = 0

    @property
    def metric(self) -> Metric:
        return stages.find(Stage.EVALUATION).metrics[ACCURACY]


def build(run: Run) -> HeldoutAccuracy | None:
    """What is known of the accuracy of the reward model that `run` trains; None for a run of another stage."""
    if run.stage != Stage.REWARD:
        return None
    if run.round is None:
        return HeldoutAccuracy(evaluation=None, sentence=_("Not measured: this run is not part of a round."))
    evaluations = list(run.round.runs.filter(stage=Stage.EVALUATION).order_by("-pk"))
    measured = next((each for each in evaluations if ACCURACY in each.metrics), None)
    if measured:
        return _measured(measured)
    if evaluations:
        return HeldoutAccuracy(evaluation=evaluations[0], sentence=_of_evaluation(evaluations[0]))
    return HeldoutAccuracy(evaluation=None, sentence=_without_evaluation(run))


def _measured(evaluation: Run) -> HeldoutAccuracy:
    figures = summaries.figures(evaluation, [])
    share, pairs = figures[ACCURACY].value, int(figures[PAIRS].value) if PAIRS in figures else 0
    interval: list[Any] = list(wilson(share, pairs)) if pairs else [share]
    value = FIGURES["accuracy"].show(interval)
    is_outside = stages.find(Stage.EVALUATION).metrics[ACCURACY].is_outside(share)
    return HeldoutAccuracy(evaluation=evaluation, value=value, is_outside=is_outside, pairs=pairs)


def _of_evaluation(evaluation: Run) -> str:
    number = {"number": evaluation.round.number if evaluation.round else 0}
    if evaluation.status == Run.Status.SUCCEEDED:
        return _("Not measured: the evaluation of round %(number)d found no held-out rankings.") % number
    if evaluation.status in Run.FINISHED:
        return _("Not measured: the evaluation of round %(number)d ended early.") % number
    if evaluation.status == Run.Status.RUNNING:
        return _("Measured by the evaluation of round %(number)d, which is running.") % number
    return _("Measured by the evaluation of round %(number)d, which is waiting for a worker.") % number


def _without_evaluation(run: Run) -> str:
    assert run.round is not None
    number = {"number": run.round.number}
    planned = next((stage for stage in plans.load(run.round).stages if stage.stage == Stage.EVALUATION), None)
    if planned is None:
        return _("Not measured: round %(number)d has no evaluation.") % number
    state, reason = stage_states.without_run(planned, is_over=not run.round.is_active)
    if state == stage_states.LEFT_OUT:
        return _("Not measured: the evaluation of round %(number)d is left out. %(reason)s") % {
            **number,
            "reason": reason,
        }
    return _("Measured by the evaluation of round %(number)d, after the stages before it.") % number
