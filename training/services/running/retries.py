"""What a person can do about a run that failed or is held: resume it, run it again, change it, or let it be.

A retry is a new run on the same snapshot in the same round, which goes on from there. One run has one retry: the
database says which of two that were asked for at once.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from annotate.models import Project, User
from annotate.services import audit
from training import doorbell, stages
from training.models import Round, Run, note
from training.rlhf.config import RunConfig, parse, to_json
from training.rlhf.exits import InvalidInput
from training.rlhf.run import origin_file, recovery_log
from training.services.run_files import directories, environment, integrity, metrics, saved_steps
from training.services.run_files.reader import RunFiles
from training.services.run_files.saved_steps import SavedStep
from training.services.running import rounds, runs

INHERITED = 0  # the attempt in a resumed run's directory that the run before made; the first of its own is 1
RETRIED = (Run.Status.FAILED, Run.Status.HELD)


class Refused(Exception):
    """This cannot be done; the message says why, or what has changed."""


class AlreadyRetried(Exception):
    """Somebody has retried the run already: `retry` is the new run."""

    def __init__(self, retry: Run) -> None:
        super().__init__(str(retry))
        self.retry = retry


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What a failure card offers."""

    retry: Run | None  # the one that there is already
    refusal: str = ""  # why nothing new may start
    saved: list[SavedStep] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)  # since the newest checkpoint: they forbid a resume

    @property
    def resumes_at(self) -> int | None:
        """The step at which a resume would go on."""
        furthest = saved_steps.furthest(self.saved)
        return None if furthest is None or self.refusal or self.changes else furthest.step

    @property
    def is_being_read(self) -> bool:
        """A worker has not read all checkpoints yet."""
        return any(saved.is_whole is None for saved in self.saved)


def choices(run: Run) -> Choices:
    """What can be done about `run`."""
    if retry := Run.objects.filter(retry_of=run).first():
        return Choices(retry=retry)
    saved = saved_steps.find(run)
    furthest = saved_steps.furthest(saved)
    changes = list(environment.changes(run, furthest.attempt)) if furthest else []
    return Choices(retry=None, refusal=refusal(run), saved=saved, changes=changes)


def refusal(run: Run) -> str:
    """Why no retry of `run` may start; empty where one may."""
    if run.status not in RETRIED:
        return _("This run has not failed and is not on hold.")
    if run.round and (newer := Round.objects.filter(project=run.project, number__gt=run.round.number).first()):
        return _("Round %(number)d has started since. Continue from there.") % {"number": newer.number}
    if not RunFiles(run).config:
        return _("The run's directory no longer exists.")
    return next(_changed_parents(run), "")


def resume(run: Run, *, actor: User) -> Run:
    """A new run that goes on from the newest whole checkpoint of `run`. Raises Refused or AlreadyRetried."""
    offered = choices(run)
    if offered.retry:
        raise AlreadyRetried(offered.retry)
    if offered.refusal or offered.changes:
        raise Refused(offered.refusal or " ".join(offered.changes))
    saved = saved_steps.furthest(offered.saved)
    if saved is None:
        raise Refused(_("There is no complete checkpoint to resume from."))
    return _retry(run, _config(run), actor=actor, action="run.resumed", saved=saved, step=saved.step)


def repeat(run: Run, *, actor: User) -> Run:
    """A new run that does the same as `run` from the start. Raises Refused or AlreadyRetried."""
    return _retry(run, _config(run), actor=actor, action="run.repeated")


def repeat_changed(run: Run, config: RunConfig, *, actor: User) -> Run:
    """A new run that does `config` on the data of `run`, from the start. Raises Refused or AlreadyRetried."""
    before, after = RunFiles(run).config, to_json(config)
    changed = {name: [before.get(name), value] for name, value in after.items() if before.get(name) != value}
    return _retry(run, config, actor=actor, action="run.changed", fields=changed)


@transaction.atomic
def release(run: Run, *, actor: User) -> None:
    """Let the held `run` go on where it stood. Raises IllegalMove or LostRace."""
    runs.release(run)
    audit.record("run.released", actor=actor, project=run.project, subject=str(run))


@transaction.atomic
def close(run: Run, *, actor: User) -> None:
    """Give up the held `run`, and with it its round. Raises IllegalMove or LostRace."""
    if run.round_id:  # locked before the run, as everywhere: so nobody waits for each other
        Round.objects.select_for_update(no_key=True).get(pk=run.round_id)
    run.move_to(Run.Status.CANCELLED, finished_at=Now())
    audit.record("run.closed", actor=actor, project=run.project, subject=str(run))
    if run.round:
        rounds.advance(run.round)


def _retry(
    run: Run, config: RunConfig, *, actor: User, action: str, saved: SavedStep | None = None, **detail: Any
) -> Run:
    """Queue a new run that takes the place of `run`. Its directory comes first: a row without one could be claimed."""
    if reason := refusal(run):
        raise AlreadyRetried(run.retried_by) if hasattr(run, "retried_by") else Refused(reason)
    new = Run(project=run.project, stage=run.stage, round=run.round, snapshot=run.snapshot, retry_of=run)
    if saved:
        new.step, new.total = saved.step, run.total
    try:
        _write_directory(new.directory, run.directory, config, saved)
        with transaction.atomic():
            _replace(run, new)
            audit.record(action, actor=actor, project=run.project, subject=str(run), retry=new.pk, **detail)
            doorbell.ring(new)
    except BaseException:
        shutil.rmtree(new.directory, ignore_errors=True)
        raise
    return new


def _replace(run: Run, new: Run) -> None:
    """Store `new` as the retry of `run`, and let the round go on with it."""
    Project.objects.select_for_update(no_key=True).get(pk=run.project_id)
    round = Round.objects.select_for_update(no_key=True).get(pk=run.round_id) if run.round_id else None
    if retry := Run.objects.filter(retry_of=run).first():
        raise AlreadyRetried(retry)
    run.refresh_from_db()
    if run.status not in RETRIED:  # it was held, and somebody has let it go on
        raise Refused(_("This run has not failed and is not on hold."))
    if round and round.status == Round.Status.CANCELLED:
        raise Refused(_("The round was cancelled."))
    if run.status == Run.Status.HELD:
        run.move_to(Run.Status.CANCELLED, finished_at=Now())
    if round and round.status == Round.Status.FAILED:
        _reopen(round)
    new.save()
    note(new, Run.Status.QUEUED)


def _reopen(round: Round) -> None:
    try:
        with transaction.atomic():
            round.move_to(Round.Status.RUNNING, error="", finished_at=None)
    except IntegrityError:
        raise Refused(_("Another round of this project is running.")) from None


def _write_directory(directory: Path, old: Path, config: RunConfig, saved: SavedStep | None) -> None:
    """Make the directory of a retry: the data of the `old` one, and the checkpoint that it goes on from."""
    data = {path.stem: path for path in (old / "data").glob("*.jsonl")}
    directories.write(directory, config, data=data, records={})
    if saved:
        _inherit(saved, directories.attempt(directory, INHERITED))


def _inherit(saved: SavedStep, target: Path) -> None:
    """Link what the engine needs to go on from `saved`, with the metrics and the samples up to it."""
    link = directories.link_or_copy
    (target / "samples").mkdir(parents=True)
    checkpoint = target / "checkpoints" / saved.path.name
    shutil.copytree(saved.path, checkpoint, copy_function=lambda source, copy: link(Path(source), Path(copy)))
    for name in (metrics.FILE, directories.ENVIRONMENT, origin_file.FILE):
        if (saved.attempt / name).exists():
            link(saved.attempt / name, target / name)
    logs = directories.find(saved.attempt.parents[1], recovery_log.FILE)
    for path in sorted(logs, key=lambda path: path.stat().st_mtime)[-1:]:
        link(path, target / path.name)  # a recovery is tried once in the life of this run and its retry
    for step, path in directories.samples(saved.attempt.parents[1]).items():
        if step <= saved.step:
            link(path, target / "samples" / path.name)


def _config(run: Run) -> RunConfig:
    try:
        return parse(RunFiles(run).config)
    except InvalidInput as error:
        raise Refused(_("Its config is no longer valid: %(error)s") % {"error": error}) from error


def read_files(run_pk: int) -> None:
    """Read what a retry of the run would go on from, so that a page can tell whether it is whole; for a worker."""
    run = Run.objects.get(pk=run_pk)
    files = RunFiles(run)
    parents = files.config.get("parents", {}).values()
    integrity.read(files.checkpoints, [_directory_of(run, parent) for parent in parents])


def _directory_of(run: Run, parent: dict[str, str]) -> Path:
    """Where a model lies that the config of `run` names."""
    return (run.directory / parent["path"]).resolve()


def _changed_parents(run: Run) -> Iterator[str]:
    """What is wrong with the models that `run` starts from."""
    for role, parent in RunFiles(run).config.get("parents", {}).items():
        found, name = integrity.model_sha256(run, _directory_of(run, parent)), stages.TRUNKS.get(role, role)
        if found is None:
            continue  # a worker is reading it; the engine refuses one that has changed
        if not found:
            yield _("The model it starts from (%(role)s) no longer exists. Restore it, or start a new round.") % {
                "role": name
            }
        elif found != parent["manifest_sha256"]:
            change = {"role": name, "old": parent["manifest_sha256"][:8], "new": found[:8]}
            yield (
                _(
                    "The model it starts from (%(role)s) has changed (hash %(old)s… is now "
                    "%(new)s…). Restore its files, or start a new round."
                )
                % change
            )
