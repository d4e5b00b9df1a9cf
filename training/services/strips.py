"""The strip of a round: eight cells from collecting labels to opening the next answers, read from rows alone.

Nothing is remembered between two looks, so that a reload, a second browser or a restarted server shows the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Count, Q
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotate.models import Project, WorkItem
from training.models import Round, Run, Snapshot, Stage
from training.services import plans
from training.services.estimates import Estimate, History
from training.services.plans import Plan, StagePlan

COLLECT, FREEZE, OPEN = "collect", "freeze", "open"  # the cells that are no stage of the engine's
DONE, LATER, LEFT_OUT = "succeeded", "waiting", "left_out"  # besides these, a cell's state is a status of its run
UNDER_WAY = (Run.Status.QUEUED, Run.Status.RUNNING, Run.Status.INTERRUPTED, Run.Status.HELD)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One step of a round as a person sees it."""

    name: str  # COLLECT, FREEZE, a Stage, or OPEN
    state: str
    count: str = ""  # what it works on or has made, in words
    elapsed: timedelta | None = None
    estimate: Estimate | None = None
    reason: str = ""  # why it is left out, or what went wrong
    run: Run | None = None
    round: Round | None = None  # None: the round is only planned

    @property
    def is_current(self) -> bool:
        """It is where the round stands now."""
        return self.state in UNDER_WAY

    @property
    def has_failed(self) -> bool:
        return self.state in (Run.Status.FAILED, Run.Status.HELD)


class Strip(NamedTuple):
    """The cells of a round in their order, and when it is through if all goes as before."""

    cells: list[Cell]
    ends_at: datetime | None


class Opened(NamedTuple):
    """The answers that a round brought to be ranked."""

    sets: int
    ranked: int


def planned(project: Project, plan: Plan) -> Strip:
    """The strip of the round that `plan` would open: labels are being collected for it."""
    history = History(project)
    stages = [_planned_stage(stage, history) for stage in plan.stages]
    collect = Cell(name=COLLECT, state=Run.Status.RUNNING if plan.obstacle else DONE, count=_waiting_labels(plan))
    opens = plan.stage(Stage.SAMPLING)
    last = Cell(name=OPEN, state=LATER if opens.will_run else LEFT_OUT, count=_sets(opens), reason=opens.reason)
    return Strip([collect, Cell(name=FREEZE, state=LATER), *stages, last], None)


def of(turn: Round) -> Strip:
    """The strip of a round that was opened."""
    now, history, plan = timezone.now(), History(turn.project), plans.of(turn)
    newest = {run.stage: run for run in turn.runs.order_by("pk").select_related("round", "model_version")}
    stages = [_stage(turn, stage, newest.get(stage.stage), history, now) for stage in plan.stages]
    cells = [_collect(turn), _freeze(turn), *stages, _open(turn, plan, newest.get(Stage.SAMPLING))]
    return Strip(cells, _end(turn, stages, now))


def _collect(turn: Round) -> Cell:
    before = Round.objects.filter(project=turn.project, number__lt=turn.number).order_by("number").last()
    since = (before and before.finished_at) or turn.project.created_at
    counts = turn.snapshot.counts if turn.snapshot else {}
    labels = _labels(counts.get("demonstrations", 0), counts.get("rankings", 0))
    return Cell(name=COLLECT, state=DONE, count=labels, elapsed=turn.created_at - since, round=turn)


def _freeze(turn: Round) -> Cell:
    snapshot: Snapshot | None = turn.snapshot
    if snapshot is None:
        return Cell(name=FREEZE, state=LEFT_OUT, reason=_("The round has no snapshot."), round=turn)
    took = turn.created_at - snapshot.created_at
    return Cell(name=FREEZE, state=DONE, count=f"{snapshot} {snapshot.sha256[:4]}…", elapsed=took, round=turn)


def _planned_stage(stage: StagePlan, history: History) -> Cell:
    if not stage.will_run:
        return Cell(name=stage.stage, state=LEFT_OUT, reason=stage.reason)
    return Cell(name=stage.stage, state=LATER, count=_work(stage), estimate=history.before(stage.stage))


def _stage(turn: Round, stage: StagePlan, run: Run | None, history: History, now: datetime) -> Cell:
    if not stage.will_run:
        return Cell(name=stage.stage, state=LEFT_OUT, reason=stage.reason, round=turn)
    if run is None:
        if not turn.is_active:
            return Cell(name=stage.stage, state=LEFT_OUT, reason=_("The round ended before it."), round=turn)
        expected = history.before(stage.stage)
        return Cell(name=stage.stage, state=LATER, count=_work(stage), estimate=expected, round=turn)
    return Cell(
        name=stage.stage,
        state=run.status,
        count=_steps(run) or _work(stage),
        elapsed=(run.finished_at or now) - run.started_at if run.started_at else None,
        estimate=history.of(stage.stage, run, now=now),
        reason=run.error.strip().partition("\n")[0] if run.status in (Run.Status.FAILED, Run.Status.HELD) else "",
        run=run,
        round=turn,
    )


def _open(turn: Round, plan: Plan, sampling: Run | None) -> Cell:
    stage = plan.stage(Stage.SAMPLING)
    if not stage.will_run:
        return Cell(name=OPEN, state=LEFT_OUT, reason=stage.reason, round=turn)
    if sampling is None or sampling.status != Run.Status.SUCCEEDED:
        if turn.is_active:
            return Cell(name=OPEN, state=LATER, count=_sets(stage), round=turn)
        return Cell(name=OPEN, state=LEFT_OUT, reason=_("The round ended before it."), round=turn)
    made = opened(sampling)
    counted = {"sets": made.sets, "ranked": made.ranked}
    return Cell(name=OPEN, state=DONE, count=_("%(sets)d sets, %(ranked)d ranked") % counted, round=turn)


def opened(sampling: Run) -> Opened:
    """How many sets of answers the run brought, and how many of them have been ranked."""
    sets = WorkItem.objects.filter(slate__completions__sample__run=sampling)
    is_done = Q(status=WorkItem.Status.DONE)
    found = sets.aggregate(sets=Count("pk", distinct=True), ranked=Count("pk", filter=is_done, distinct=True))
    return Opened(found["sets"], found["ranked"])


def _end(turn: Round, stages: list[Cell], now: datetime) -> datetime | None:
    """When the round is through, where every stage that is not over has an estimate."""
    open_cells = [cell for cell in stages if cell.state == LATER or cell.is_current]
    estimates = [cell.estimate for cell in open_cells if cell.estimate]
    if not turn.is_active or not open_cells or len(estimates) < len(open_cells):
        return None
    return now + sum((estimate.left for estimate in estimates), timedelta())


def _steps(run: Run) -> str:
    if run.status == Run.Status.SUCCEEDED or not run.total:
        return ""
    return f"{run.step}/{run.total}"


def _waiting_labels(plan: Plan) -> str:
    sft, reward = plan.stage(Stage.SFT).counts, plan.stage(Stage.REWARD).counts
    return _labels(sft["new_demonstrations"], reward["new_rankings"])


def _work(stage: StagePlan) -> str:
    """On how much a stage works."""
    counts = stage.counts
    if stage.stage == Stage.SFT:
        return _answers(counts["demonstrations"])
    if stage.stage == Stage.REWARD:
        return _rankings(counts["rankings"])
    if stage.stage == Stage.SAMPLING:
        return _sets(stage)
    prompts = counts["prompts" if stage.stage == Stage.PPO else "heldout_prompts"]
    return ngettext("%(number)d prompt", "%(number)d prompts", prompts) % {"number": prompts}


def _sets(stage: StagePlan) -> str:
    number = stage.counts["slates"] + stage.counts["heldout_slates"]
    return ngettext("%(number)d set", "%(number)d sets", number) % {"number": number}


def _labels(demonstrations: int, rankings: int) -> str:
    words = [_answers(demonstrations)] * bool(demonstrations) + [_rankings(rankings)] * bool(rankings)
    return ", ".join(words) or _("no labels")


def _answers(number: int) -> str:
    return ngettext("%(number)d answer", "%(number)d answers", number) % {"number": number}


def _rankings(number: int) -> str:
    return ngettext("%(number)d ranking", "%(number)d rankings", number) % {"number": number}
