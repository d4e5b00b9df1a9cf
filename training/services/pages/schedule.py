"""The schedule: every run that waits or works, over all projects, and when each starts and ends if all goes as before.

The workers take runs in the order of their rows, and a round's next stage queues up when the one before it is done.
So their work is simulated; behind something that nobody can estimate, nothing can be said.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass
from datetime import UTC, datetime

from django.utils import timezone

from annotate.models import Project, User
from training.models import Round, Run, Worker
from training.services.planning import plans, stage_states
from training.services.planning.estimates import Estimate, History
from training.services.planning.stage_states import LATER, LOST

UNKNOWN = datetime.max.replace(tzinfo=UTC)  # later than anything
STUCK = (Run.Status.HELD, LOST)  # nobody works on it, and nobody can say when somebody will


@dataclass(kw_only=True)
class Job:
    """A run, or a stage of a running round that is still to come."""

    project: Project
    round: Round | None
    stage: str
    run: Run | None
    estimate: Estimate | None
    is_visible: bool  # the reader may see the project
    state: str = LATER
    starts_at: datetime = UNKNOWN
    ends_at: datetime = UNKNOWN

    @property
    def start(self) -> datetime | None:
        """When it starts or has started; None where that cannot be said."""
        return None if self.starts_at == UNKNOWN else self.starts_at

    @property
    def end(self) -> datetime | None:
        return None if self.ends_at == UNKNOWN else self.ends_at


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A gpu-worker, and the job that it does."""

    worker: Worker
    job: Job | None


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What waits and works, in the order in which it is done, and who does it."""

    jobs: list[Job]
    holders: list[Holder]
    history: History

    @property
    def alive(self) -> list[Worker]:
        """The live gpu-workers."""
        return [holder.worker for holder in self.holders]

    @property
    def lost(self) -> set[int]:
        """The ids of the runs whose worker is silent."""
        return {job.run.pk for job in self.jobs if job.run and job.state == LOST}

    def of_round(self, round: Round) -> dict[str, Job]:
        """What is still to be done for `round`, by stage."""
        return {job.stage: job for job in self.jobs if job.round == round}

    def end_of(self, round: Round) -> datetime | None:
        """When everything of `round` is done; None where that cannot be said."""
        ends = [job.ends_at for job in self.of_round(round).values()]
        return None if not ends or UNKNOWN in ends else max(ends)


def forecast(reader: User, project: Project) -> Schedule:
    """The schedule as `reader` may see it: jobs of projects that are not theirs take up time and say nothing else.

    Its history covers `project` in any case: its next round may only be planned.
    """
    now = timezone.now()
    visible = set(Project.objects.administered_by(reader).values_list("pk", flat=True))
    active = list(Run.objects.unfinished().select_related("project", "round").order_by("pk"))
    history = History({project.pk, *(run.project_id for run in active)})
    lost = set(Run.objects.lost().values_list("pk", flat=True))
    jobs = [_job(run, visible, history, now, lost) for run in active]
    alive = list(Worker.objects.alive("gpu").select_related("run__project"))
    by_run = {job.run.pk: job for job in jobs if job.run and job.state == Run.Status.RUNNING}
    holders = [Holder(worker=worker, job=by_run.get(worker.run_id or 0)) for worker in alive]
    return Schedule(jobs=simulate(jobs, history, now=now, workers=max(1, len(alive))), holders=holders, history=history)


def simulate(jobs: list[Job], history: History, *, now: datetime, workers: int) -> list[Job]:
    """Give every job its start and its end; the stages that come up on the way queue up behind what waits already."""
    running = [job for job in jobs if job.state == Run.Status.RUNNING]
    done = [*running, *(job for job in jobs if job.state in STUCK)]
    free = [now] * max(workers, len(running))  # when each worker has nothing left to do
    queue = Queue(history)
    for job in running:
        _occupy(free, job, job.run.started_at if job.run and job.run.started_at else now, now)
    for job in jobs:
        if job.state in (Run.Status.QUEUED, Run.Status.INTERRUPTED):
            queue.add(job, now)
    for job in running:
        queue.add_next_stage(job)
    while queue:
        ready, job = queue.take()
        start = max(ready, free[0])
        _occupy(free, job, start, start)
        done.append(job)
        queue.add_next_stage(job)
    return done


class Queue:
    """The waiting jobs, by when they may start and then in the order in which they were added."""

    def __init__(self, history: History) -> None:
        self.waiting: list[tuple[datetime, int, Job]] = []
        self.number = itertools.count()
        self.history = history

    def __bool__(self) -> bool:
        return bool(self.waiting)

    def add(self, job: Job, ready: datetime) -> None:
        heapq.heappush(self.waiting, (ready, next(self.number), job))

    def add_next_stage(self, job: Job) -> None:
        """The stage of a round that comes up when `job` is done; none where the round is over already."""
        stages = plans.load(job.round).stages if job.round and job.round.is_active else []
        later = itertools.dropwhile(lambda stage: stage.stage != job.stage, stages)
        following = next((stage for stage in itertools.islice(later, 1, None) if stage.will_run), None)
        if following is None:
            return
        next_job = Job(
            project=job.project,
            round=job.round,
            stage=following.stage,
            run=None,
            estimate=self.history.last_time(job.project.pk, following.stage, in_round=True),
            is_visible=job.is_visible,
        )
        self.add(next_job, job.ends_at)

    def take(self) -> tuple[datetime, Job]:
        ready, _number, job = heapq.heappop(self.waiting)
        return ready, job


def _occupy(free: list[datetime], job: Job, start: datetime, goes_on_from: datetime) -> None:
    """Give `job` to the worker that is free first."""
    job.starts_at = start
    if start != UNKNOWN and job.estimate:
        job.ends_at = goes_on_from + job.estimate.left
    heapq.heapreplace(free, job.ends_at)


def _job(run: Run, visible: set[int], history: History, now: datetime, lost: set[int]) -> Job:
    return Job(
        project=run.project,
        round=run.round,
        stage=run.stage,
        run=run,
        estimate=None if run.pk in lost or run.cancel_requested else history.estimate(run, now=now),
        is_visible=run.project_id in visible,
        state=stage_states.with_run(run, lost),
    )
