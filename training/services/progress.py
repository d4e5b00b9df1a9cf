"""What the pages of a round show: each planned stage beside its run, with what the run's files say right now.

Everything is read from rows and files, so a reload, a second browser or a restarted server shows the same picture.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from django.utils.functional import Promise

from training.models import Round, Run, Stage
from training.services import curves, metric_names, plans, step_samples, vitals
from training.services.metric_names import OF_STAGE, READINGS, Metric
from training.services.plans import StagePlan
from training.services.states import LATER, LEFT_OUT, LOST
from training.services.step_samples import Cell


class Reading(NamedTuple):
    """One metric as a page shows it, with the band in which it should lie."""

    label: str | Promise
    value: str
    unit: str | Promise
    band: str = ""
    is_outside: bool = False


@dataclass(frozen=True, kw_only=True)
class StageProgress:
    """A stage of a round: what was planned and how far it is."""

    plan: StagePlan
    run: Run | None
    state: str  # a status of the run, or one of services.states
    readings: list[Reading]
    log_tail: str

    @property
    def bar(self) -> list[Cell]:
        """A cell for each step of PPO; the other stages have no answers to open."""
        if self.run is None or self.run.stage != Stage.PPO:
            return []
        return step_samples.bar(self.run, curves.history(self.run), vitals.config(self.run))

    @property
    def model_name(self) -> str:
        """The model that the stage has published; empty before it has, and for stages that make none."""
        model = getattr(self.run, "model_version", None)
        return model.name if model else ""


def runs_of(turn: Round) -> list[Run]:
    """Every run of `turn`, in the order in which they were asked for."""
    return list(turn.runs.order_by("pk").select_related("model_version"))


def of_round(turn: Round) -> list[StageProgress]:
    """The stages of `turn` in their order."""
    return of_stages(plans.of(turn).stages, runs_of(turn), lost=())


def of_stages(stages: list[StagePlan], runs: list[Run], *, lost: Collection[int]) -> list[StageProgress]:
    """Each of `stages` with its run; of several runs of one stage the newest counts."""
    newest = {run.stage: run for run in runs}
    return [of_stage(stage, newest.get(stage.stage), lost=lost) for stage in stages]


def of_stage(plan: StagePlan, run: Run | None, *, lost: Collection[int]) -> StageProgress:
    """One stage with what its run says. Only an unfinished or failed run has a log to show."""
    if run is None:
        return StageProgress(plan=plan, run=None, state=LATER if plan.will_run else LEFT_OUT, readings=[], log_tail="")
    log_tail = "" if run.status == Run.Status.SUCCEEDED else vitals.log_tail(run)
    state = LOST if run.pk in lost else run.status
    return StageProgress(plan=plan, run=run, state=state, readings=readings(run), log_tail=log_tail)


def readings(run: Run) -> list[Reading]:
    """The newest value of every metric that has a name for people; a finished run's from its summary."""
    latest, config = run.metrics or vitals.newest_metrics(run), vitals.config(run)
    names = OF_STAGE[run.stage][:READINGS]
    return [_reading(metric_names.of(name, config), latest[name]) for name in names if name in latest]


def _reading(metric: Metric, value: float) -> Reading:
    return Reading(metric.label, metric.show(value), metric.unit, metric.band, metric.is_outside(value))
