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
from training.services.pages.schedule import Schedule
from training.services.pages.timelines import Timeline
from training.services.planning import plans, stage_states
from training.services.planning.estimates import Estimate, History
from training.services.planning.plans import Plan, StagePlan
from training.services.planning.stage_states import LATER, LEFT_OUT
from training.services.running import failures, retries
from training.services.running.retries import Choices

COLLECT, FREEZE, OPEN = "collect", "freeze", "open"  # the cells that are no stage of the engine's
DONE = Run.Status.SUCCEEDED.value


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
    """The cells of a round in their order, and when it is through if all goes as before."""

    cells: list[Cell]
    ends_at: datetime | None


class Opened(NamedTuple):
    """The answers that a round brought to be ranked."""

    sets: int
    ranked: int


def build_planned(project: Project, plan: Plan, history: History, *, missing: int) -> Strip:
    """The strip of the round that `plan` would open: labels are being collected for it, and so many are missing."""
    before = _before(project, plan.number)
    stages = [_planned_stage(project, stage, history) for stage in plan.stages]
    collect = _collecting(project, plan, before, missing)
    freeze = Cell(name=FREEZE, state=LATER, estimate=_as_before(before))
    opens = plan.stage(Stage.SAMPLING)
    if not opens.will_run:
        last = _left_out(OPEN, opens.reason)
    else:
        left = _sum([cell for cell in stages if cell.state == LATER])
        last = Cell(name=OPEN, state=LATER, count=_sets(opens), estimate=_after_all(left))
    return Strip([collect, freeze, *stages, last], None)


def build(round: Round, runs: list[Run], spent: dict[int, Timeline], schedule: Schedule) -> Strip:
    """The strip of a round that was opened, from all of its runs and their timelines."""
    plan, now = plans.load(round), timezone.now()
    newest = {run.stage: run for run in runs}
    stages = [_stage(round, stage, newest.get(stage.stage), schedule, spent) for stage in plan.stages]
    ends_at = schedule.end_of(round) if round.is_active else None
    left = ends_at - now if ends_at else None
    last = _open(round, plan, newest.get(Stage.SAMPLING), left)
    return Strip([_collect(round, plan), _freeze(round), *stages, last], ends_at)


def opened(sampling: Run) -> Opened:
    """How many sets of answers the run brought, and how many of them have been ranked."""
    sets = WorkItem.objects.filter(slate__completions__sample__run=sampling)
    is_done = Q(status=WorkItem.Status.DONE)
    found = sets.aggregate(sets=Count("pk", distinct=True), ranked=Count("pk", filter=is_done, distinct=True))
    return Opened(found["sets"], found["ranked"])


def _before(project: Project, number: int) -> Round | None:
    earlier = Round.objects.filter(project=project, number__lt=number).select_related("snapshot")
    return earlier.order_by("number").last()


def _collecting(project: Project, plan: Plan, before: Round | None, missing: int) -> Cell:
    """Labels are being collected until there are enough; afterwards, until somebody starts the round."""
    elapsed = timezone.now() - _collected_since(project, before)
    state = Run.Status.RUNNING if plan.obstacle else DONE
    estimate = None
    came = (
        plan.stage(Stage.REWARD).counts["new_rankings"]
        if before
        else plan.stage(Stage.SFT).counts["new_demonstrations"]
    )
    if missing and came:
        left = elapsed / came * missing
        estimate = Estimate(whole=elapsed + left, left=left, basis=_("at the pace so far"))
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
    expected = history.last_time(project.pk, stage.stage, in_round=True)
    return Cell(name=stage.stage, state=LATER, count=_work(stage), estimate=expected)


def _left_out(name: str, reason: str) -> Cell:
    return Cell(name=name, state=LEFT_OUT, reason=reason)


def _stage(round: Round, stage: StagePlan, run: Run | None, schedule: Schedule, spent: dict[int, Timeline]) -> Cell:
    if run is None:
        state, reason = stage_states.without_run(stage, is_over=not round.is_active)
        is_ahead = state == LATER
        return _planned_stage(round.project, stage, schedule.history) if is_ahead else _left_out(stage.stage, reason)
    job = schedule.of_round(round).get(stage.stage)
    needs_person = run.status in retries.RETRIED
    return Cell(
        name=stage.stage,
        state=job.state if job else run.status,
        count=_steps(run) or _work(stage),
        elapsed=spent[run.pk].worked if run.started_at else None,
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
        return Cell(name=OPEN, state=LATER, count=_sets(stage), estimate=_after_all(left))
    made = opened(sampling)
    counted = {"sets": made.sets, "ranked": made.ranked}
    words = _("%(sets)d sets, %(ranked)d ranked") % counted
    return Cell(name=OPEN, state=DONE, count=words, elapsed=_has_been_open(round, sampling))


def _has_been_open(round: Round, sampling: Run) -> timedelta | None:
    """How long people have had the sets, up to the round that was made from what they said."""
    after = Round.objects.filter(project=round.project_id, number__gt=round.number).order_by("number").first()
    until = after.created_at if after else timezone.now()
    return until - sampling.finished_at if sampling.finished_at else None


def _after_all(left: timedelta | None) -> Estimate | None:
    return None if left is None else Estimate(whole=left, left=left, basis=_("when all before it is done"))


def _sum(cells: list[Cell]) -> timedelta | None:
    """What `cells` take together; None where one of them cannot be estimated."""
    known = [cell.estimate.whole for cell in cells if cell.estimate]
    return sum(known, timedelta()) if len(known) == len(cells) else None


def _steps(run: Run) -> str:
    if run.status == Run.Status.SUCCEEDED or not run.total:
        return ""
    return f"{run.step}/{run.total}"


def _new_labels(plan: Plan) -> str:
    """The labels that came since those of the models that the round starts from."""
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
    answers = ngettext("%(number)d new answer", "%(number)d new answers", demonstrations) % {"number": demonstrations}
    ranked = ngettext("%(number)d new ranking", "%(number)d new rankings", rankings) % {"number": rankings}
    words = [answers] * bool(demonstrations) + [ranked] * bool(rankings)
    return ", ".join(words) or _("no new labels")


def _answers(number: int) -> str:
    return ngettext("%(number)d answer", "%(number)d answers", number) % {"number": number}


def _rankings(number: int) -> str:
    return ngettext("%(number)d ranking", "%(number)d rankings", number) % {"number": number}
