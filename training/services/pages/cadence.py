"""The cadence of a round: how long people waited from the last label that it needed to the next answers to rank.

Measured from stored times alone, and by the minima that the round was planned with, so that it can be worked out for
every round there was and stays what it was when the settings change.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import QuerySet

from annotate.models import Split
from annotate.models.labels import LabelT
from training.models import Round, Run, Snapshot
from training.services.pages.timelines import Timeline
from training.services.planning import plans
from training.stages import Stage


@dataclass(frozen=True, kw_only=True)
class Cadence:
    """The time from the last label needed to the next batch, and its parts. None: that is still to come."""

    enough_at: datetime  # when the last label came that the round needed
    pressed_at: datetime
    open_at: datetime | None
    waiting_for_worker: timedelta  # of the runs, in all
    training: timedelta  # likewise: in the hands of a worker

    @property
    def until_pressed(self) -> timedelta:
        return max(self.pressed_at - self.enough_at, timedelta())

    @property
    def whole(self) -> timedelta | None:
        return self.open_at - self.enough_at if self.open_at else None

    @property
    def stood_still(self) -> timedelta | None:
        """How long a failure or a held run waited for a person."""
        if self.open_at is None:
            return None
        rest = self.open_at - self.pressed_at - self.waiting_for_worker - self.training
        return max(rest, timedelta())


def measure(round: Round, runs: list[Run], timelines: dict[int, Timeline]) -> Cadence | None:
    """The cadence of `round` from its runs and the timeline of each by its id; None where it needed no labels."""
    enough_at = _enough_at(round)
    if enough_at is None:
        return None
    done = [run.finished_at for run in runs if run.stage == Stage.SAMPLING and run.status == Run.Status.SUCCEEDED]
    return Cadence(
        enough_at=enough_at,
        pressed_at=round.created_at,
        open_at=done[-1] if done else None,
        waiting_for_worker=sum((timeline.waited for timeline in timelines.values()), timedelta()),
        training=sum((timeline.worked for timeline in timelines.values()), timedelta()),
    )


def _enough_at(round: Round) -> datetime | None:
    """When the labels in the round's snapshot that are newer than those of the round before reached their minimum."""
    plan = plans.load(round)
    if round.snapshot is None or not plan.minima:
        return None
    if plan.stage(Stage.REWARD).will_run:
        rankings = round.snapshot.rankings.filter(slate__prompt__split=Split.TRAIN)
        return _nth(rankings, plan.minima["rankings"], _since(round, Stage.REWARD))
    return _nth(round.snapshot.demonstrations.all(), plan.minima["demonstrations"], _since(round, Stage.SFT))


def _since(round: Round, stage: Stage) -> datetime | None:
    """When the labels were frozen that the newest model of `stage` before the round was made from."""
    used = Snapshot.objects.filter(project=round.project, created_at__lt=round.created_at, model_versions__kind=stage)
    newest = used.exclude(rounds=round).order_by("created_at").last()
    return newest.created_at if newest else None


def _nth(labels: QuerySet[LabelT], minimum: int, since: datetime | None) -> datetime | None:
    """When the label came that made `minimum` new ones, the last of them where there are fewer."""
    new = labels.filter(created_at__gt=since) if since else labels
    times = list(new.order_by("created_at").values_list("created_at", flat=True)[: max(1, minimum)])
    return times[-1] if times else None
