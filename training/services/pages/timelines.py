"""Timelines: for how long a run worked, and for how long it waited, by the transitions in the audit table.

Its first start and its end do not say: between them it may have been interrupted, or held overnight. A worker
that vanished counts as working until somebody noticed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

from django.utils import timezone

from annotate.models import AuditEvent
from training.models import Run

Status = Run.Status
PREFIX = "run."


class Timeline(NamedTuple):
    """How long a run was in the hands of a worker, and how long it waited for one."""

    worked: timedelta
    waited: timedelta


def measure(runs: Sequence[Run]) -> dict[int, Timeline]:
    """The timelines of `runs`, which are of one project, by their ids; up to now where a run is not over."""
    moves = _moves(runs)
    return {run.pk: _timeline(run, moves[run.audit_name]) for run in runs}


def _moves(runs: Sequence[Run]) -> dict[str, list[tuple[datetime, str]]]:
    """When which run came into which status, by what the audit table calls it."""
    found: dict[str, list[tuple[datetime, str]]] = defaultdict(list)
    if not runs:
        return found
    events = AuditEvent.objects.filter(project=runs[0].project_id, created_at__gte=min(run.created_at for run in runs))
    events = events.filter(action__in=[PREFIX + status for status in Status.values])
    for subject, moment, action in events.order_by("pk").values_list("subject", "created_at", "action"):
        found[subject].append((moment, action.removeprefix(PREFIX)))
    return found


def _timeline(run: Run, moves: list[tuple[datetime, str]]) -> Timeline:
    end = run.finished_at or timezone.now()
    stays = [(run.created_at, Status.QUEUED.value), *(moves or _stored(run)), (end, run.status)]
    times: dict[str, timedelta] = defaultdict(timedelta)
    for (start, status), (until, _next) in pairwise(stays):
        times[status] += max(until - start, timedelta())
    return Timeline(worked=times[Status.RUNNING], waited=times[Status.QUEUED])


def _stored(run: Run) -> list[tuple[datetime, str]]:
    """What the run's own columns say, where the audit table says nothing."""
    return [(run.started_at, Status.RUNNING.value)] if run.started_at else []
