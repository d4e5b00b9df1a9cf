"""What admins do to the queue: put a run first or last, cancel one.

A project admin may do so to the runs of projects that they administer, and put one first as long as it overtakes no
run of another project: that is for site admins. A pretraining stays behind everything else, wherever it is put.
A round's run is cancelled with its round. Workers take runs meanwhile; whoever comes first wins.
"""

from __future__ import annotations

from django.db import transaction

from annotate.models import Project, User
from annotate.services import audit
from training import doorbell
from training.models import Run
from training.services.running import runs


class TooLate(Exception):
    """A worker has taken the run meanwhile, or it is over; `run` as it is now."""

    def __init__(self, run: Run) -> None:
        super().__init__(str(run))
        self.run = run


class OthersWait(Exception):
    """Runs of projects that the actor does not administer stand before the run."""


class BelongsToRound(Exception):
    """The run is a stage of a round, and ends with it."""


@transaction.atomic
def put_first(run: Run, *, actor: User) -> None:
    """Let workers take `run` next of those that wait. Raises TooLate or OthersWait."""
    waiting = _lock_queue(run)
    before = waiting[: waiting.index(run)]
    administered = set(Project.objects.administered_by(actor).values_list("pk", flat=True))
    if any(other.project_id not in administered for other in before):
        raise OthersWait
    if before:
        _move(run, waiting[0].position - 1, waiting, actor)


@transaction.atomic
def put_last(run: Run, *, actor: User) -> None:
    """Let everything that waits now be taken before `run`. Raises TooLate."""
    waiting = _lock_queue(run)
    if run != waiting[-1]:
        _move(run, Run.last_position() + 1, waiting, actor)


@transaction.atomic
def cancel(run: Run, *, actor: User) -> None:
    """End `run`, at once where it waits, else as soon as its engine has stopped. Raises TooLate or BelongsToRound."""
    if run.round_id:
        raise BelongsToRound
    run.refresh_from_db()
    if run.status in Run.FINISHED or run.cancel_requested:
        raise TooLate(run)
    runs.cancel(run, actor=actor)
    run.refresh_from_db()
    if run.status not in Run.FINISHED:
        facts = {"before": run.status, "step": run.step, "total": run.total}
        audit.record("run.cancel_requested", actor=actor, project=run.project, subject=run.audit_name, **facts)
    elif run.status != Run.Status.CANCELLED:
        raise TooLate(run)


def _lock_queue(run: Run) -> list[Run]:
    """The waiting runs that `run` competes with, in their order; they stay so until the end of the transaction."""
    # By id: two who move runs at once wait for each other, and never in a circle.
    locked = Run.objects.filter(status=Run.Status.QUEUED).order_by("pk").select_for_update(no_key=True, of=("self",))
    alike = [other for other in locked if other.yields_to_others == run.yields_to_others]
    if run not in alike:
        run.refresh_from_db()
        raise TooLate(run)
    return sorted(alike, key=lambda other: (other.position, other.pk))


def _move(run: Run, position: int, waiting: list[Run], actor: User) -> None:
    """Give `run` its new position, and write down which place in the queue it had and has."""
    before = waiting.index(run) + 1
    Run.objects.filter(pk=run.pk).update(position=position)
    run.refresh_from_db()
    in_order = sorted([other for other in waiting if other != run] + [run], key=lambda one: (one.position, one.pk))
    after = in_order.index(run) + 1
    audit.record("run.moved", actor=actor, project=run.project, subject=run.audit_name, before=before, after=after)
    doorbell.ring(in_order[0])  # of the messages under way none may be for what stands first now
