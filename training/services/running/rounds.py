"""Rounds: opening one from a plan, moving it on stage by stage, cancelling it."""

from __future__ import annotations

from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from annotate.models import Project, User
from training import stages
from training.models import Round, Run, TrainingSettings, note
from training.rlhf.exits import InvalidInput
from training.services.labels import snapshots
from training.services.planning import plans, preflight
from training.services.registry import configs
from training.services.run_files.directories import Record
from training.services.running import failures, notices, runs
from training.stages import Makes
from training.stages.planning import StagePlan

Status = Round.Status


class RoundRunning(Exception):
    """Another round of the project is active: `round`."""

    def __init__(self, round: Round) -> None:
        super().__init__(str(round))
        self.round = round


class NotReady(Exception):
    """The round cannot be opened yet; the message says what is missing."""


def open(project: Project, *, opened_by: User | None) -> Round:
    """Freeze the labels and start a round on them. Raises RoundRunning or NotReady."""
    try:
        round = _create(project, opened_by)
    except IntegrityError:
        raise RoundRunning(Round.objects.active().get(project=project)) from None
    advance(round)
    round.refresh_from_db()
    return round


@transaction.atomic
def advance(round: Round) -> None:
    """Start the next stage of `round` if the one before has succeeded, or end the round. Harmless at any time.

    A stage that failed or was cancelled ends the round; one that is not over is waited for.
    """
    round = Round.objects.select_for_update(no_key=True).get(pk=round.pk)
    if not round.is_active:
        return
    if round.status == Status.PLANNED:
        round.move_to(Status.RUNNING, started_at=Now())
    for stage in plans.load(round).stages:
        if not stage.will_run:
            continue
        run = round.runs.filter(stage=stage.stage).order_by("pk").last()
        if run is None:
            _start(round, stage)
            return
        if run.status == Run.Status.SUCCEEDED:
            continue
        if run.status == Run.Status.FAILED:
            _end(round, Status.FAILED, error=f"{run.get_stage_display()}: {failures.cause_of(run)}")
        elif run.status == Run.Status.CANCELLED:
            _end(round, Status.CANCELLED)
        return
    _end(round, Status.SUCCEEDED)


@transaction.atomic
def cancel(round: Round, *, actor: User) -> None:
    """End `round` and stop what runs for it. Raises IllegalMove when it is over already."""
    round.move_to(Status.CANCELLED, actor=actor, finished_at=Now())
    for run in round.runs.unfinished():
        runs.cancel(run)


@transaction.atomic
def _create(project: Project, opened_by: User | None) -> Round:
    # Of two admins who press at once the second one waits here; the constraint on active rounds is what decides.
    Project.objects.select_for_update(no_key=True).get(pk=project.pk)
    if active := Round.objects.active().filter(project=project).first():
        raise RoundRunning(active)
    if not TrainingSettings.objects.filter(project=project).exists():
        raise NotReady(_("This project has no base model yet. Choose one in the settings."))
    plan = plans.draft(project)
    if plan.obstacle:
        raise NotReady(plan.obstacle)
    if refusal := preflight.refusal(project, plan):
        raise NotReady(refusal)
    round = Round.objects.create(
        project=project,
        number=plan.number,
        plan=plan.to_json(),
        snapshot=snapshots.freeze(project),
        opened_by=opened_by,
    )
    note(round, "opened", actor=opened_by, snapshot=str(round.snapshot))
    notices.started(round)
    return round


def _start(round: Round, stage: StagePlan) -> None:
    """Queue the run of `stage`."""
    training = TrainingSettings.objects.get(project=round.project)
    parents = {role: plans.resolve(round, parent) for role, parent in stage.parents.items()}
    try:
        config = configs.make(training, stage.stage, round_number=round.number, parents=parents)
    except InvalidInput as error:  # an override that the engine does not know
        _end(round, Status.FAILED, error=f"{stage.stage}: {error}")
        return
    frozen = snapshots.files(round.snapshot) if round.snapshot else {}
    definition = stages.find(stage.stage)
    data = {name: frozen[name] for name in definition.data}
    records: dict[str, list[Record]] = {}
    if definition.makes is Makes.SLATES:
        records["prompts"] = plans.prompts_to_answer(round.project, stage, number=round.number)
    runs.queue(round.project, config=config, data=data, records=records, round=round, snapshot=round.snapshot)


def _end(round: Round, status: str, *, error: str = "") -> None:
    round.move_to(status, error=error, finished_at=Now())
    notices.ended(round)
