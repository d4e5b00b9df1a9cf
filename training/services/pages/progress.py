"""What the pages of a round show: each planned stage with its run, and what the run's files say right now.

Everything is read from rows and files, so a reload, a second browser or a restarted server shows the same picture.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from django.utils.translation import gettext as _

from training import stages
from training.models import ModelVersion, Round, Run
from training.services.planning import plans, stage_states
from training.services.run_files import step_samples, summaries
from training.services.run_files.gauge_curves import BEST_STEP, JUDGE
from training.services.run_files.metrics import Row
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
        remark=judges_decision(files),
    )


def figures(files: RunFiles) -> dict[str, Figure]:
    """The figures of a run, or what they would be if it ended now."""
    return summaries.figures(files.run, [] if files.run.metrics else files.history)


def stopped_at_limit(files: RunFiles) -> bool:
    """Whether PPO ended because the policy was too far from the reference, and took the policy before."""
    if files.run.stage != Stage.PPO or files.run.status != Run.Status.SUCCEEDED or not files.history:
        return False
    last, limit = files.history[-1].metrics, float(files.config.get("kl_limit", math.inf))
    return last.get("rollout/final_kl", last.get("rollout/kl", 0.0)) > limit


def judges_decision(files: RunFiles) -> str:
    """What a PPO run has published by the judgement of its watcher, and why it ended; empty where nothing else went on.

    That is: where there was no watcher, where it only watched, and where the policy of the last step was the best.
    """
    run, history = files.run, files.history
    if run.stage != Stage.PPO or run.status != Run.Status.SUCCEEDED or files.config.get("early_stopping") != "on":
        return ""
    best = next((row.metrics[BEST_STEP] for row in reversed(history) if BEST_STEP in row.metrics), None)
    if best is None or best == history[-1].step:
        return ""
    steps = {"step": history[-1].step, "total": history[-1].total, "best": int(best)}
    is_early = steps["step"] < steps["total"] and not stopped_at_limit(files)
    if best:
        published = _("Published is the policy of step %(best)d.")
        if is_early:
            why = _("Stopped at step %(step)d of %(total)d: the independent judge saw no further improvement.")
        else:
            why = _("The independent judge liked an earlier policy best.")
    else:
        published = _("Published is the policy PPO started from.")
        if is_early:
            why = _("Stopped at step %(step)d of %(total)d: the independent judge saw no certain improvement.")
        else:
            why = _("The independent judge saw no certain improvement.")
    return " ".join(filter(None, [why % steps, _judged(history, int(best)), published % steps]))


def _judged(history: list[Row], best: int) -> str:
    """The judge's scores of the policy that it liked best and of the last one it saw; empty where one is unknown."""
    seen = {row.step: row.metrics[JUDGE] for row in history if JUDGE in row.metrics}
    last = max(seen, default=best)
    if best not in seen or last == best:
        return ""
    shown = stages.find(Stage.PPO).metrics[JUDGE].show
    text = _("Its score was %(then)s σ at step %(best)d and %(now)s σ at step %(last)d.")
    return text % {"then": shown(seen[best]), "best": best, "now": shown(seen[last]), "last": last}


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
