"""Estimates: how long a stage will take, and what that is judged by. Without anything to judge by there is none.

A stage under way is judged by its own pace; one that waits, by the newest time that the project did it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils.translation import gettext as _

from annotate.models import Project
from training.models import Run

PACE_FROM = 0.1  # the share of its steps after which a stage's own pace says more than the last time's


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """How long something takes in all, how much of that is left, and why we think so."""

    whole: timedelta
    left: timedelta
    basis: str


class History:
    """How long each stage took when the project did it last. One query, for as many estimates as a page needs."""

    def __init__(self, project: Project) -> None:
        done = Run.objects.filter(project=project, status=Run.Status.SUCCEEDED).exclude(started_at=None)
        fields = ("stage", "started_at", "finished_at", "round__number")
        self.newest = {stage: rest for stage, *rest in done.order_by("pk").values_list(*fields)}

    def before(self, stage: str) -> Estimate | None:
        """What `stage` will take if it goes as it went last."""
        if stage not in self.newest:
            return None
        started, finished, number = self.newest[stage]
        took = finished - started
        basis = _("as in round %(number)d") % {"number": number} if number else _("as the last time")
        return Estimate(whole=took, left=took, basis=basis)

    def of(self, stage: str, run: Run | None, *, now: datetime) -> Estimate | None:
        """What `stage` takes, given how far `run` is; None where nothing tells, or where it is over."""
        if run is None or run.started_at is None:
            return self.before(stage)
        if run.status in Run.FINISHED:
            return None
        spent = now - run.started_at
        if run.total and run.step >= PACE_FROM * run.total:
            left = spent * ((run.total - run.step) / run.step)
            return Estimate(whole=spent + left, left=left, basis=_("at its own pace"))
        if earlier := self.before(stage):
            left = max(earlier.whole - spent, timedelta())
            return Estimate(whole=earlier.whole, left=left, basis=earlier.basis)
        return None
