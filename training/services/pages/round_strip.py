"""The strip of a round: nine cells from collecting labels to opening the next answers, read from rows alone.

Nothing is kept between two requests, so a reload, a second browser or a restarted server shows the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Count, Q
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, ngettext_lazy

from annotate.models import Project, WorkItem
from training import stages
from training.models import Round, Run, Snapshot
from training.services.pages.schedule import Schedule
from training.services.pages.timelines import Timeline
from training.services.planning import plans, stage_states
from training.services.planning.estimates import Estimate, History
from training.services.planning.plans import Plan
from training.services.planning.stage_states import LATER, LEFT_OUT
from training.services.running import failures, retries
from training.services.running.retries import Choices
from training.stages import Stage
from training.stages.planning import StagePlan

COLLECT, FREEZE, OPEN = "collect", "freeze", "open"  # the cells that are no stage of the engine's
DONE = Run.Status.SUCCEEDED.value
FEWEST, FEWEST_SHARE = 10, 0.25  # labels, or the share of those needed, from which on their pace says something

NEW_ANSWERS = ngettext_lazy("%(number)d new answer", "%(number)d new answers", "number")
NEW_RANKINGS = ngettext_lazy("%(number)d new ranking", "%(number)d new rankings", "number")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One step of a round as a person sees it."""

    name: str  # COLLECT, FREEZE, a Stage, or OPEN
    state: str  # a status of its run, or one of stage_states
    count: str = ""  # what it works on or has made, in words
    elapsed: timedelta | None = None
    estimate: Estimate | None = None
    reason: str = ""  # why it is left out, or what went wrong
    run: Run | None = None
    choices: Choices | None = None  # what a person can do about a run that failed or is held

    @property
    def is_current(self) -> bool:
        """It is where the round stands now."""
        return self.state not in (DONE, LATER, LEFT_OUT, Run.Status.FAILED, Run.Status.CANCELLED)


class Strip(NamedTuple):
    """The cells of a round in their order, and when it ends if all goes as before."""

    cells: list[Cell]
    ends_at: datetime | None


def build_planned(project: Project, plan: Plan, history: History, *, missing: int) -> Strip:
    """The strip of the round that `plan` would open, while its labels are collected: `missing` are still to come."""
    before = _before(project, plan.number)
    cells = [_planned_stage(project, stage, history) for stage in plan.stages]
    collect = _collecting(project, plan, before, missing)
    freeze = Cell(name=FREEZE, state=LATER, estimate=_as_before(before))
    opens = plan.stage(Stage.SAMPLING)
    if not opens.will_run:
        last = _left_out(OPEN, opens.reason)
    else:
        left = _sum([cell for cell in cells if cell.state == LATER])
        last = Cell(name=OPEN, state=LATER, count=_amount(opens), estimate=_after_all(left))
    return Strip([collect, freeze, *cells, last], None)


def build(round: Round, runs: list[Run], timelines: dict[int, Timeline], schedule: Schedule) -> Strip:
    """The strip of a round that was opened, from all of its runs and the timeline of each by its id."""
    plan, now = plans.load(round), timezone.now()
    newest = {run.stage: run for run in runs}
    cells = [_stage(round, stage, newest.get(stage.stage), schedule, timelines) for stage in plan.stages]
    ends_at = schedule.end_of(round) if round.is_active else None
    left = ends_at - now if ends_at else None
    last = _open(round, plan, newest.get(Stage.SAMPLING), left)
    return Strip([_collect(round, plan), _freeze(round), *cells, last], ends_at)


def _before(project: Project, number: int) -> Round | None:
    earlier = Round.objects.filter(project=project, number__lt=number).select_related("snapshot")
    return earlier.order_by("number").last()


def _collecting(project: Project, plan: Plan, before: Round | None, missing: int) -> Cell:
    """Labels are being collected until there are enough; afterwards, until somebody starts the round."""
    elapsed = timezone.now() - _collected_since(project, before)
    state = Run.Status.RUNNING if plan.obstacle else DONE
    new = plan.total("new_rankings" if before else "new_demonstrations")
    estimate = None
    if missing and new >= min(FEWEST, FEWEST_SHARE * (new + missing)):
        left = elapsed / new * missing
        estimate = Estimate(whole=elapsed + left, left=left, basis=_("at the current pace"))
    return Cell(name=COLLECT, state=state, count=_new_labels(plan), elapsed=elapsed, estimate=estimate)


def _collect(round: Round, plan: Plan) -> Cell:
    since = _collected_since(round.project, _before(round.project, round.number))
    return Cell(name=COLLECT, state=DONE, count=_new_labels(plan), elapsed=round.created_at - since)


def _collected_since(project: Project, before: Round | None) -> datetime:
    """What is labelled while a round runs waits for the one after it."""
    return before.created_at if before else project.created_at


def _freeze(round: Round) -> Cell:
    snapshot: Snapshot | None = round.snapshot
    if snapshot is None:
        return _left_out(FREEZE, _("The round has no snapshot."))
    took = round.created_at - snapshot.created_at
    return Cell(name=FREEZE, state=DONE, count=f"{snapshot} {snapshot.sha256[:4]}…", elapsed=took)


def _as_before(before: Round | None) -> Estimate | None:
    """How long freezing takes, by the round before."""
    if before is None or before.snapshot is None:
        return None
    took = before.created_at - before.snapshot.created_at
    return Estimate(whole=took, left=took, basis=_("as in round %(number)d") % {"number": before.number})


def _planned_stage(project: Project, stage: StagePlan, history: History) -> Cell:
    if not stage.will_run:
        return _left_out(stage.stage, stage.reason)
    expected = history.of_planned(project.pk, stage)
    return Cell(name=stage.stage, state=LATER, count=_amount(stage), estimate=expected)


def _left_out(name: str, reason: str) -> Cell:
    return Cell(name=name, state=LEFT_OUT, reason=reason)


def _stage(round: Round, stage: StagePlan, run: Run | None, schedule: Schedule, timelines: dict[int, Timeline]) -> Cell:
    if run is None:
        state, reason = stage_states.without_run(stage, is_over=not round.is_active)
        if state == LATER:
            return _planned_stage(round.project, stage, schedule.history)
        return _left_out(stage.stage, reason)
    job = schedule.of_round(round).get(stage.stage)
    has_steps = run.total and run.status != Run.Status.SUCCEEDED
    needs_person = run.status in retries.RETRIED
    return Cell(
        name=stage.stage,
        state=job.state if job else run.status,
        count=f"{run.step}/{run.total}" if has_steps else _amount(stage),
        elapsed=timelines[run.pk].worked if run.started_at else None,
        estimate=job.estimate if job else None,
        reason=failures.cause_of(run).headline if needs_person else "",
        run=run,
        choices=retries.choices(run) if needs_person else None,
    )


def _open(round: Round, plan: Plan, sampling: Run | None, left: timedelta | None) -> Cell:
    stage = plan.stage(Stage.SAMPLING)
    if sampling is None or sampling.status != Run.Status.SUCCEEDED:
        state, reason = stage_states.without_run(stage, is_over=not round.is_active)
        if state == LEFT_OUT:
            return _left_out(OPEN, reason)
        return Cell(name=OPEN, state=LATER, count=_amount(stage), estimate=_after_all(left))
    sets = WorkItem.objects.filter(slate__completions__sample__run=sampling)
    ranked = Count("pk", filter=Q(status=WorkItem.Status.DONE), distinct=True)
    counts = sets.aggregate(sets=Count("pk", distinct=True), ranked=ranked)
    words = ngettext("%(sets)d set, %(ranked)d ranked", "%(sets)d sets, %(ranked)d ranked", counts["sets"]) % counts
    return Cell(name=OPEN, state=DONE, count=words, elapsed=_has_been_open(round, sampling))


def _has_been_open(round: Round, sampling: Run) -> timedelta | None:
    """How long people have had the sets, up to the round that was made from their rankings."""
    after = Round.objects.filter(project=round.project_id, number__gt=round.number).order_by("number").first()
    until = after.created_at if after else timezone.now()
    return until - sampling.finished_at if sampling.finished_at else None


def _after_all(left: timedelta | None) -> Estimate | None:
    return None if left is None else Estimate(whole=left, left=left, basis=_("once the stages before are done"))


def _sum(cells: list[Cell]) -> timedelta | None:
    """What `cells` take together; None where one of them cannot be estimated."""
    known = [cell.estimate.whole for cell in cells if cell.estimate]
    return sum(known, timedelta()) if len(known) == len(cells) else None


def _new_labels(plan: Plan) -> str:
    """The labels that came since those of the models that the round starts from."""
    answers, rankings = plan.total("new_demonstrations"), plan.total("new_rankings")
    words = [NEW_ANSWERS % {"number": answers}] if answers else []
    words += [NEW_RANKINGS % {"number": rankings}] if rankings else []
    return ", ".join(words) or _("no new labels")


def _amount(plan: StagePlan) -> str:
    """How much a stage works on, in words."""
    return stages.find(plan.stage).amount(plan.counts)
