"""The cadence of a round: how long people waited from the last label that it needed to the next answers to rank.

Measured from stored times alone, so that it can be worked out for every round there was.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import QuerySet

from annotate.models import Split
from annotate.models.labels import LabelT
from training.models import Round, Run, Snapshot, Stage, TrainingSettings
from training.services import plans


@dataclass(frozen=True, kw_only=True)
class Cadence:
    """The time from the last label needed to the next batch, and its three parts. None: that is still to come."""

    enough_at: datetime  # when the last label came that the round needed
    pressed_at: datetime
    open_at: datetime | None
    waiting_for_worker: timedelta  # of the runs, in all

    @property
    def until_pressed(self) -> timedelta:
        return max(self.pressed_at - self.enough_at, timedelta())

    @property
    def whole(self) -> timedelta | None:
        return self.open_at - self.enough_at if self.open_at else None

    @property
    def training(self) -> timedelta | None:
        return self.open_at - self.pressed_at - self.waiting_for_worker if self.open_at else None


def of(turn: Round) -> Cadence | None:
    """The cadence of `turn`; None where it needed no labels."""
    enough_at = _enough_at(turn)
    if enough_at is None:
        return None
    runs = list(turn.runs.order_by("pk"))
    waits = [run.started_at - run.created_at for run in runs if run.started_at]
    done = [run.finished_at for run in runs if run.stage == Stage.SAMPLING and run.status == Run.Status.SUCCEEDED]
    return Cadence(
        enough_at=enough_at,
        pressed_at=turn.created_at,
        open_at=done[-1] if done else None,
        waiting_for_worker=sum(waits, timedelta()),
    )


def _enough_at(turn: Round) -> datetime | None:
    """When the labels in the round's snapshot that are newer than those of the round before reached their minimum."""
    training = TrainingSettings.objects.filter(project=turn.project).first()
    if turn.snapshot is None or training is None:
        return None
    if plans.of(turn).stage(Stage.REWARD).will_run:
        rankings = turn.snapshot.rankings.filter(slate__prompt__split=Split.TRAIN)
        return _nth(rankings, training.rankings_minimum, _since(turn, Stage.REWARD))
    return _nth(turn.snapshot.demonstrations.all(), training.demonstrations_minimum, _since(turn, Stage.SFT))


def _since(turn: Round, stage: Stage) -> datetime | None:
    """When the labels were frozen that the newest model of `stage` before the round was made from."""
    used = Snapshot.objects.filter(project=turn.project, created_at__lt=turn.created_at, model_versions__kind=stage)
    newest = used.exclude(rounds=turn).order_by("created_at").last()
    return newest.created_at if newest else None


def _nth(labels: QuerySet[LabelT], minimum: int, since: datetime | None) -> datetime | None:
    """When the label came that made `minimum` new ones, the last of them where there are fewer."""
    new = labels.filter(created_at__gt=since) if since else labels
    times = list(new.order_by("created_at").values_list("created_at", flat=True)[: max(1, minimum)])
    return times[-1] if times else None
