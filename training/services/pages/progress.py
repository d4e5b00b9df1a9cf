"""What the pages of a round show: each planned stage with its run, and what the run's files say right now.

Everything is read from rows and files, so a reload, a second browser or a restarted server shows the same picture.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from training import stages
from training.models import ModelVersion, Round, Run
from training.services.planning import plans, stage_states
from training.services.run_files import judges_decision, step_samples, summaries
from training.services.run_files.reader import RunFiles
from training.services.run_files.step_samples import StepCell
from training.services.run_files.summaries import Figure
from training.services.running import failures, retries
from training.services.running.failures import Cause
from training.stages import Stage
from training.stages.metric import Metric, Words
from training.stages.planning import StagePlan

READINGS = 8  # how many of a stage, from the first, are shown on the page of its round
EARLY = 0.1  # the share of its steps in which a run may be outside every band


class Reading(NamedTuple):
    """One metric as a page shows it, with the band in which it should lie."""

    label: Words
    value: str
    unit: Words
    band: str = ""
    is_outside: bool = False
    span: str = ""  # over which steps
    meaning: Words = ""  # in a sentence


@dataclass(frozen=True, kw_only=True)
class StageProgress:
    """A stage of a round: what was planned and how far it is."""

    plan: StagePlan
    files: RunFiles | None = None  # of its run; None while it has none
    state: str  # a status of the run, or one of stage_states
    reason: str = ""  # why it is left out
    readings: list[Reading] = field(default_factory=list)
    log_tail: str = ""
    cause: Cause | None = None  # of a run that failed or is held
    remark: str = ""  # what the independent judge has decided

    @property
    def run(self) -> Run | None:
        return self.files.run if self.files else None

    @property
    def bar(self) -> list[StepCell]:
        """A cell for each step of PPO; the other stages have no answers to open."""
        return step_samples.step_cells(self.files) if self.files and self.plan.stage == Stage.PPO else []

    @property
    def model_name(self) -> str:
        """The model that the stage has published; empty before it has, and for stages that make none."""
        model = getattr(self.run, "model_version", None)
        return model.name if model else ""


def load_runs(round: Round) -> list[RunFiles]:
    """The files of every run of `round`, in the order in which they were asked for, each run with its newest step."""
    files = [RunFiles(run) for run in round.runs.order_by("pk").select_related("model_version")]
    for each in files:
        each.catch_up()
    return files


def newest_policy(runs: list[Run]) -> ModelVersion | None:
    """The newest policy among what `runs` have published."""
    made = [run.model_version for run in runs if hasattr(run, "model_version")]
    return next((model for model in reversed(made) if model.is_policy), None)


def stages_of(round: Round) -> list[StageProgress]:
    """The stages of `round` in their order."""
    return pair_stages(plans.load(round).stages, load_runs(round), is_over=not round.is_active)


def pair_stages(
    planned: list[StagePlan], runs: list[RunFiles], *, is_over: bool, lost: Collection[int] = ()
) -> list[StageProgress]:
    """Each planned stage with its run; of several runs of one stage the newest counts. `is_over`: the round is."""
    newest = {files.run.stage: files for files in runs}
    found = []
    for stage in planned:
        if files := newest.get(stage.stage):
            found.append(describe(stage, files, lost=lost))
        else:
            state, reason = stage_states.without_run(stage, is_over=is_over)
            found.append(StageProgress(plan=stage, state=state, reason=reason))
    return found


def describe(plan: StagePlan, files: RunFiles, *, lost: Collection[int]) -> StageProgress:
    """A stage with what its run says. Only an unfinished or failed run has a log to show."""
    run = files.run
    return StageProgress(
        plan=plan,
        files=files,
        state=stage_states.with_run(run, lost),
        readings=readings(files),
        log_tail="" if run.status == Run.Status.SUCCEEDED else files.log_tail,
        cause=failures.cause_of(run) if run.status in retries.RETRIED else None,
        remark=judges_decision.in_words(files),
    )


def figures(files: RunFiles) -> dict[str, Figure]:
    """The figures of a run, or what they would be if it ended now."""
    return summaries.figures(files.run, [] if files.run.metrics else files.history)


def readings(files: RunFiles) -> list[Reading]:
    """The figures of a run that have a name for people."""
    run, found = files.run, figures(files)
    stage = stages.find(run.stage)
    is_early = run.status == Run.Status.RUNNING and run.step < run.total * EARLY
    names = [name for name in stage.shown_metrics[:READINGS] if name in found]
    return [_reading(stage.metrics[name].in_run(files.config), found[name], is_early) for name in names]


def _reading(metric: Metric, figure: Figure, is_early: bool) -> Reading:
    is_outside = metric.is_outside(figure.value) and not is_early
    value = metric.show(figure.value)
    return Reading(metric.label, value, metric.unit, metric.band, is_outside, figure.span, metric.meaning)
