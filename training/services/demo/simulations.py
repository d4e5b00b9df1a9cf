"""Simulations: simulated people write or rank in a demo project, as a job that a worker does and a page follows.

The row is the job, as with runs: a lost message is rung again, and a worker that went silent is replaced.
"""

from __future__ import annotations

import contextlib
import logging

from django.db import Error as DatabaseError
from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from annotate.models import Project, User
from training import doorbell
from training.models import IllegalMove, LostRace, Simulation, TrainingSettings, note
from training.services.demo import people
from training.tiny import annotators
from training.tiny.annotators import Annotator, Behaviour

SLICE = 8  # labels between two reports of progress: one of each person
# They are here to help, not to test the queue: nobody skips, comes late or sends twice.
BEHAVIOUR = Behaviour(skip=0.0, late=0.0, twice=0.0)
LARGEST = 1_000  # labels of one simulation

Status = Simulation.Status
logger = logging.getLogger(__name__)


class Refused(Exception):
    """Simulated people cannot help here; the message says why."""


def newest(project: Project) -> Simulation | None:
    """The simulation that the project's pages show."""
    return project.simulations.order_by("-pk").first()


def start(project: Project, *, kind: str, wanted: int, started_by: User) -> Simulation:
    """Let simulated people hand in `wanted` labels of `kind`; one that is under way goes on instead. Raises Refused."""
    if not TrainingSettings.objects.demos().filter(project=project).exists():
        raise Refused(_("Simulated people can only label the demo project's questions."))
    if not 1 <= wanted <= LARGEST:
        raise Refused(_("Enter a number of labels from 1 to %(number)d.") % {"number": LARGEST})
    try:
        with transaction.atomic():
            simulation = Simulation.objects.create(project=project, kind=kind, wanted=wanted, started_by=started_by)
            note(simulation, Status.WAITING, actor=started_by, kind=kind, wanted=wanted)
            doorbell.ring_for_simulation(simulation)
    except IntegrityError:
        return project.simulations.live().get()
    return simulation


def stop(project: Project, *, actor: User) -> None:
    """End the simulation that is under way, if any. Labels that are in stay."""
    with contextlib.suppress(LostRace, IllegalMove):
        if simulation := project.simulations.live().first():
            simulation.move_to(Status.STOPPED, actor=actor)


def run(simulation_pk: int) -> None:
    """Do what waits under this id; a message that comes twice or late finds nothing to do."""
    simulation = Simulation.objects.select_related("project").filter(pk=simulation_pk, status=Status.WAITING).first()
    if simulation is None:
        return
    with contextlib.suppress(LostRace, IllegalMove):
        simulation.move_to(Status.RUNNING, touched_at=Now())
        try:
            _work(simulation)
        except (LostRace, DatabaseError):
            raise  # stopped by somebody; or the sweep lets a worker go on once the database is back
        except Exception as error:
            logger.exception("simulation %s failed", simulation.pk)
            simulation.move_to(Status.FAILED, error=f"{type(error).__name__}: {error}")
        else:
            simulation.move_to(Status.DONE)


def write_first_answers(project: Project, *, number: int, seed: int) -> None:
    """Simulated people write `number` answers, within the transaction that makes the demo project."""
    annotators.work(_team(project, seed=seed), "demonstration", wanted=number)


def _work(simulation: Simulation) -> None:
    """Hand in labels, a slice at a time. Raises LostRace once the simulation is stopped."""
    team = _team(simulation.project, seed=f"{simulation.pk}-{simulation.done}")
    while missing := simulation.wanted - simulation.done:
        handed_in = annotators.work(team, simulation.kind, wanted=min(SLICE, missing))
        if not handed_in:
            return  # nothing of this kind is left
        simulation.done += handed_in
        held = Simulation.objects.filter(pk=simulation.pk, status=Status.RUNNING)
        if not held.update(done=simulation.done, touched_at=Now()):
            raise LostRace(f"simulation {simulation.pk} is no longer running")


def _team(project: Project, *, seed: int | str) -> list[Annotator]:
    return [
        Annotator(people.LocalDesk(member), name=f"member-{number}", behaviour=BEHAVIOUR, seed=seed)
        for number, member in enumerate(people.join(project), start=1)
    ]
