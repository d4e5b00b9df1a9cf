"""What the pages of a round show: each planned stage beside its run, with what the run's files say right now.

Everything is read from rows and files, so a reload, a second browser or a restarted server shows the same picture.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from django.utils.functional import Promise

from training import stages
from training.models import ModelVersion, Round, Run, Stage
from training.services.planning import plans, stage_states
from training.services.planning.plans import StagePlan
from training.services.run_files import attempts, curves, step_samples, summaries
from training.services.run_files.step_samples import Cell
from training.services.run_files.summaries import Figure
from training.services.running import failures, retries
from training.services.running.failures import Cause
from training.stages.metric import Metric

HELDOUT_ACCURACY = "heldout/reward_accuracy"
READINGS = 8  # the first so many of a stage stand on the page of its round
EARLY = 0.1  # the share of its steps in which a run may be anywhere


class Reading(NamedTuple):
    """One metric as a page shows it, with the band in which it should lie."""

    label: str | Promise
    value: str
    unit: str | Promise
    band: str = ""
    is_outside: bool = False
    span: str = ""  # over which steps


@dataclass(frozen=True, kw_only=True)
class StageProgress:
    """A stage of a round: what was planned and how far it is."""

    plan: StagePlan
    run: Run | None
    state: str  # a status of the run, or one of stage_states
    reason: str = ""  # why it is left out
    readings: list[Reading] = field(default_factory=list)
    log_tail: str = ""
    cause: Cause | None = None  # of a run that failed or is held

    @property
    def bar(self) -> list[Cell]:
        """A cell for each step of PPO; the other stages have no answers to open."""
        if self.run is None or self.run.stage != Stage.PPO:
            return []
        return step_samples.step_cells(self.run, curves.history(self.run), attempts.config(self.run))

    @property
    def model_name(self) -> str:
        """The model that the stage has published; empty before it has, and for stages that make none."""
        model = getattr(self.run, "model_version", None)
        return model.name if model else ""


def runs_of(round: Round) -> list[Run]:
    """Every run of `round`, in the order in which they were asked for, as far as each is at this moment."""
    return [attempts.catch_up(run) for run in round.runs.order_by("pk").select_related("model_version")]


def policy_of(runs: list[Run]) -> ModelVersion | None:
    """The newest policy among what `runs` have published."""
    made = [run.model_version for run in runs if hasattr(run, "model_version")]
    return next((model for model in reversed(made) if model.is_policy), None)


def stages_of(round: Round) -> list[StageProgress]:
    """The stages of `round` in their order."""
    return pair_stages(plans.load(round).stages, runs_of(round), is_over=not round.is_active)


def pair_stages(
    stages: list[StagePlan], runs: list[Run], *, is_over: bool, lost: Collection[int] = ()
) -> list[StageProgress]:
    """Each of `stages` with its run; of several runs of one stage the newest counts. `is_over`: the round is."""
    newest = {run.stage: run for run in runs}
    found = []
    for stage in stages:
        if run := newest.get(stage.stage):
            found.append(describe(stage, run, lost=lost))
        else:
            state, reason = stage_states.without_run(stage, is_over=is_over)
            found.append(StageProgress(plan=stage, run=None, state=state, reason=reason))
    return found


def describe(plan: StagePlan, run: Run, *, lost: Collection[int]) -> StageProgress:
    """A stage with what its run says. Only an unfinished or failed run has a log to show."""
    return StageProgress(
        plan=plan,
        run=run,
        state=stage_states.with_run(run, lost),
        readings=readings(run),
        log_tail="" if run.status == Run.Status.SUCCEEDED else attempts.log_tail(run),
        cause=failures.cause_of(run) if run.status in retries.RETRIED else None,
    )


def figures(run: Run) -> dict[str, Figure]:
    """What `run` is remembered by, or would be if it ended now."""
    return summaries.figures(run, [] if run.metrics else curves.history(run))


def measured_by(run: Run) -> Run | None:
    """The evaluation that told how far a reward model agrees with people on prompts that it has never seen."""
    if run.stage != Stage.REWARD or run.round is None:
        return None
    ended = run.round.runs.filter(stage=Stage.EVALUATION, status=Run.Status.SUCCEEDED).order_by("-pk")
    return next((each for each in ended if HELDOUT_ACCURACY in each.metrics), None)


def heldout_accuracy(evaluation: Run) -> Reading:
    """The agreement on held-out rankings, as `evaluation` measured it."""
    metric = stages.find(Stage.EVALUATION).metrics[HELDOUT_ACCURACY]
    return _reading(metric, figures(evaluation)[HELDOUT_ACCURACY], is_early=False)


def readings(run: Run) -> list[Reading]:
    """The figures of `run` that have a name for people."""
    found, config = figures(run), attempts.config(run)
    stage = stages.find(run.stage)
    is_early = run.status == Run.Status.RUNNING and run.step < run.total * EARLY
    names = [name for name in stage.shown_metrics[:READINGS] if name in found]
    return [_reading(stage.metric(name, config), found[name], is_early) for name in names]


def _reading(metric: Metric, figure: Figure, is_early: bool) -> Reading:
    is_outside = metric.is_outside(figure.value) and not is_early
    return Reading(metric.label, metric.show(figure.value), metric.unit, metric.band, is_outside, figure.span)
