"""Estimates: how long a stage will take, and what says so. Where nothing does there is no estimate.

A stage under way is estimated from its own pace; one that waits, from the last time that the project did it in one
go. A run that was interrupted does not count: how long it stood still is no part of what a stage takes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Max, Q
from django.utils.translation import gettext as _

from training.models import Run
from training.services.run_files.reader import RunFiles

PACE_FROM = 0.1  # the share of its steps after which a stage's own pace says more than the last time


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """How long something takes in all, how much of that is left, and what that is estimated from."""

    whole: timedelta
    left: timedelta
    basis: str


class History:
    """How long each stage took when each of `projects` did it last, in one query for all that a page estimates.

    Stages of rounds are kept apart from other runs: an answer to a single question is a sampling, too.
    """

    def __init__(self, projects: Collection[int]) -> None:
        done = Run.objects.succeeded().filter(project__in=projects, attempt__lte=1, retry_of=None)
        timed = done.exclude(started_at=None).annotate(in_round=Q(round__isnull=False))
        kinds = timed.order_by().values("project", "stage", "in_round")
        newest = Run.objects.filter(pk__in=kinds.annotate(newest=Max("pk")).values("newest")).select_related("round")
        self.newest = {(run.project_id, run.stage, run.round is not None): run for run in newest}

    def last_time(self, project: int, stage: str, *, in_round: bool) -> Estimate | None:
        """What `stage` will take if it goes as it went last."""
        run = self.newest.get((project, stage, in_round))
        if run is None or run.started_at is None or run.finished_at is None:
            return None
        took = run.finished_at - run.started_at
        basis = _("as in round %(number)d") % {"number": run.round.number} if run.round else _("as last time")
        return Estimate(whole=took, left=took, basis=basis)

    def estimate(self, run: Run, *, now: datetime) -> Estimate | None:
        """What is left of `run`; None where nothing is known, where it is over, and where it waits for a person."""
        if run.status in Run.FINISHED or run.status == Run.Status.HELD:
            return None
        own = RunFiles(run).pace
        if own and own.step >= PACE_FROM * own.total:
            return Estimate(whole=own.of_step * own.total, left=own.left, basis=_("at its current pace"))
        earlier = self.last_time(run.project_id, run.stage, in_round=run.round_id is not None)
        return earlier and Estimate(whole=earlier.whole, left=_left(run, earlier.whole, now), basis=earlier.basis)


def _left(run: Run, whole: timedelta, now: datetime) -> timedelta:
    """How much is left of a run that takes `whole`; of one that has stood still since its start, by its steps."""
    if run.status == Run.Status.RUNNING and run.started_at and run.attempt <= 1:
        return max(whole - (now - run.started_at), timedelta())
    return whole * (1 - run.step / run.total) if run.total else whole
