"""The schedule: every run that waits or works, over all projects, and when each starts and ends if all goes as before.

The workers take runs in the order of the queue, and a round's next stage queues up when the one before it is done.
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
from training.services.run_files.reader import RunFiles

UNKNOWN = datetime.max.replace(tzinfo=UTC)  # later than anything
WAITING = (Run.Status.QUEUED, Run.Status.INTERRUPTED)
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
    wait: Wait | None = None  # of a run that waits while every worker is busy
    may_go_first: bool = False  # the reader may move it before those that would be taken before it
    may_go_last: bool = False

    @property
    def is_waiting(self) -> bool:
        """It is a run that no worker has taken yet."""
        return self.state in WAITING

    @property
    def processes(self) -> int:
        """How many processes it wants: a worker with fewer cards or cores leaves it."""
        return RunFiles(self.run).processes if self.run else 1

    @property
    def start(self) -> datetime | None:
        """When it starts or has started; None where that cannot be said."""
        return None if self.starts_at == UNKNOWN else self.starts_at

    @property
    def end(self) -> datetime | None:
        return None if self.ends_at == UNKNOWN else self.ends_at


@dataclass(frozen=True, kw_only=True)
class Wait:
    """What a run waits for: the job that frees a worker first, and how many others are taken before the run is."""

    first: Job
    more: int


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

    def job_of(self, run: Run) -> Job | None:
        """The job of `run`; None when that is over."""
        return next((job for job in self.jobs if job.run == run), None)

    def of_round(self, round: Round) -> dict[str, Job]:
        """What is still to be done for `round`, by stage."""
        return {job.stage: job for job in self.jobs if job.round == round}

    def end_of(self, round: Round) -> datetime | None:
        """When everything of `round` is done; None where that cannot be said."""
        ends = [job.ends_at for job in self.of_round(round).values()]
        return None if not ends or UNKNOWN in ends else max(ends)


def forecast(reader: User, project: Project | None = None) -> Schedule:
    """The schedule as `reader` may see it: jobs of projects that are not theirs take up time and say nothing else.

    Its history covers `project`, whose page it is for, in any case: its next round may only be planned.
    """
    now = timezone.now()
    visible = set(Project.objects.administered_by(reader).values_list("pk", flat=True))
    active = list(Run.objects.unfinished().in_order().select_related("project", "round", "answer"))
    history = History({run.project_id for run in active} | ({project.pk} if project else set()))
    lost = set(Run.objects.lost().values_list("pk", flat=True))
    jobs = [_job(run, visible, history, now, lost) for run in active]
    alive = list(Worker.objects.alive("gpu").select_related("run__project"))
    by_run = {job.run.pk: job for job in jobs if job.run and job.state == Run.Status.RUNNING}
    holders = [Holder(worker=worker, job=by_run.get(worker.run_id or 0)) for worker in alive]
    jobs = simulate(jobs, history, now=now, workers=max(1, len(alive)))
    _offer_moves(jobs)
    name_waits(jobs, workers=len(alive))
    return Schedule(jobs=jobs, holders=holders, history=history)


def simulate(jobs: list[Job], history: History, *, now: datetime, workers: int) -> list[Job]:
    """Give every job its start and its end; the stages that come up on the way queue up behind what waits already."""
    running = [job for job in jobs if job.state == Run.Status.RUNNING]
    done = [*running, *(job for job in jobs if job.state in STUCK)]
    free = [now] * max(workers, len(running))  # when each worker has nothing left to do
    queue = Queue(history)
    for job in running:
        _occupy(free, job, job.run.started_at if job.run and job.run.started_at else now, now)
    for job in jobs:
        if job.is_waiting:
            queue.add(job, now)
    for job in running:
        queue.add_next_stage(job)
    while queue:
        start, job = queue.take(free[0])
        _occupy(free, job, start, start)
        done.append(job)
        queue.add_next_stage(job)
    return done


def _offer_moves(jobs: list[Job]) -> None:
    """Say which runs the reader may move: each among those that yield as it does, see services/running/steering.py."""
    for yields in (False, True):
        queue = [job for job in jobs if job.state == Run.Status.QUEUED and job.run]
        queue = [job for job in queue if job.run and job.run.yields_to_others == yields]
        queue.sort(key=lambda job: (job.run.position, job.run.pk) if job.run else (0, 0))
        for place, job in enumerate(queue):
            job.may_go_first = place > 0 and all(other.is_visible for other in queue[: place + 1])
            job.may_go_last = place < len(queue) - 1 and job.is_visible


def name_waits(jobs: list[Job], *, workers: int) -> None:
    """Say of each run that waits what it waits for; `jobs` stand in the order in which they are done."""
    before = [job for job in jobs if job.state == Run.Status.RUNNING]
    for job in jobs:
        if job.is_waiting and before and len(before) >= workers:
            first = min(before, key=lambda other: other.ends_at)
            job.wait = Wait(first=first, more=len(before) - 1)
        if job.is_waiting or job.state == LATER:
            before.append(job)


class Queue:
    """The waiting jobs: whoever is free takes what stands first among those that may start by then."""

    def __init__(self, history: History) -> None:
        self.waiting: list[tuple[bool, int, datetime, Job]] = []  # whether it yields to others, and its number
        self.number = itertools.count()
        self.history = history

    def __bool__(self) -> bool:
        return bool(self.waiting)

    def add(self, job: Job, ready: datetime) -> None:
        yields = job.run is not None and job.run.yields_to_others
        self.waiting.append((yields, next(self.number), ready, job))

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
            estimate=self.history.of_planned(job.project.pk, following),
            is_visible=job.is_visible,
        )
        self.add(next_job, job.ends_at)

    def take(self, free: datetime) -> tuple[datetime, Job]:
        """What a worker that is `free` then takes next, and when."""
        start = max(free, min(ready for *_, ready, _job in self.waiting))
        taken = min(one for one in self.waiting if one[2] <= start)
        self.waiting.remove(taken)
        return start, taken[3]


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
