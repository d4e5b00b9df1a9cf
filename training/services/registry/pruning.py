"""Pruning: what takes room on the disk and nothing needs any more is found, and freed when somebody says so.

Rows stay, and so do logs and metrics: only weights and checkpoints are removed. A project in which a round or a run is
under way keeps all of its models until that is over. Directories that no row knows are found apart from the rest: they
may be needed by another database.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from annotate.models import Project
from annotate.services import audit
from training.models import Adoption, ModelVersion, Promotion, Round, Run, Snapshot
from training.models.runs import RunQuerySet
from training.services.run_files import directories
from training.services.run_files.directories import is_leftover, size_of

ENDED_BADLY = (Run.Status.FAILED, Run.Status.CANCELLED)
PARENTS = ("parent", "reward", "reference", "watcher")
# The folders below DATA_DIR whose directories each belong to a row, by its uuid.
OWNERS = {"runs": (Run,), "models": (ModelVersion, Adoption), "snapshots": (Snapshot,)}
DRAFTS = ".*.draft"  # in these folders: what is renamed once it is complete


class Kept(NamedTuple):
    """Something that would be removed, were it not for what still needs it, which `why` names."""

    what: str
    why: str


class Prunable(NamedTuple):
    """Something that may be removed: folders, the bytes that would be free, and why nothing needs it."""

    what: str
    why: str
    paths: tuple[Path, ...]
    size: int
    run: Run | None = None
    model: ModelVersion | None = None


def find(*, older_than: timedelta) -> list[Prunable]:
    """What may be removed now, the largest first. Runs that ended badly count once they ended `older_than` ago."""
    found = [*_checkpoints(), *_failed_attempts(older_than), *_damaged_checkpoints(older_than), *_weights()]
    return sorted(found, key=lambda prunable: prunable.size, reverse=True)


def free(prunable: Prunable) -> bool:
    """Remove it, unless something has come to need it since it was found. Returns whether it is gone."""
    if prunable.model is not None:
        may_go = _mark_weights_deleted(prunable.model)
    elif prunable.run is not None:
        may_go = _done_for_good().filter(pk=prunable.run.pk).exists()
    else:
        may_go = set(prunable.paths) <= set(unknown_directories())
    if may_go:
        for path in prunable.paths:
            shutil.rmtree(path, ignore_errors=True)
    return may_go


def find_unknown() -> Prunable | None:
    """The unknown directories, together, since the files of a run and of its model are often the same; None if none."""
    paths = tuple(unknown_directories())
    if not paths:
        return None
    example = paths[0].relative_to(settings.DATA_DIR)
    what = _("unknown directories (%(number)d, such as %(example)s)") % {"number": len(paths), "example": example}
    return Prunable(what, _("no row in this database"), paths, size_of(*paths))


def unknown_directories() -> list[Path]:
    """The complete directories that no row of this database knows, unless they are new.

    A crash between the disk and the database left them. Or they belong to another database: to the one before
    DATABASE_URL was changed, or to the one that an older backup has replaced. So nothing removes them unasked.
    """
    unknown: list[Path] = []
    for folder, models in OWNERS.items():
        # The disk is read first: a row that is written meanwhile is seen.
        found = [path for path in sorted(Path(settings.DATA_DIR, folder).glob("*")) if path.is_dir()]
        known = {str(uuid) for model in models for uuid in model._default_manager.values_list("uuid", flat=True)}
        unknown += [path for path in found if path.name not in known and not path.match(DRAFTS) and is_leftover(path)]
    return unknown


def kept_for_adapters() -> list[Kept]:
    """The weights that only adapters need which stand on them."""
    found = []
    for model in _unneeded_by_rounds().filter(pk__in=_bases_of_adapters()).select_related("project").order_by("pk"):
        names = ", ".join(adapter.name for adapter in model.adapters.with_weights().order_by("pk"))
        found.append(Kept(_weights_of(model), _("needed by its adapters: %(names)s") % {"names": names}))
    return found


def unneeded_models() -> QuerySet[ModelVersion]:
    """Models that no project serves, has served, or would start its next round from, no parent of those, and no model
    that an adapter stands on.
    """
    return _unneeded_by_rounds().exclude(pk__in=_bases_of_adapters())


def _bases_of_adapters() -> QuerySet[ModelVersion, Any]:
    """The ids of the models on which adapters stand whose own weights are there."""
    return ModelVersion.objects.with_weights().filter(stands_on__isnull=False).values("stands_on")


def _unneeded_by_rounds() -> QuerySet[ModelVersion]:
    busy = Run.objects.unfinished().values("project")
    # A rollback goes to what was promoted at any time; the next round starts from the newest of each kind.
    live = set(Promotion.objects.values_list("model_version", flat=True))
    live |= set(ModelVersion.objects.with_weights().newest_of_each_kind().values_list("pk", flat=True))
    parents = [set(ModelVersion.objects.filter(pk__in=live).values_list(role, flat=True)) for role in PARENTS]
    kept = live.union(*parents) - {None}
    return (
        ModelVersion.objects.filter(external_path="", run__isnull=False)
        .exclude(kind=ModelVersion.Kind.BASE)
        .exclude(pk__in=kept)
        .exclude(project__in=busy)
        .exclude(project__in=Round.objects.active().values("project"))
    )


def _done_for_good() -> RunQuerySet:
    """Finished runs from which no other run goes on."""
    return Run.objects.finished().exclude(pk__in=_retried())


def _retried() -> set[int]:
    """The runs that an unfinished one retries, and those that these retried."""
    retries = Run.objects.unfinished().filter(retry_of__isnull=False)
    retried: set[int] = set()
    while found := {pk for pk in retries.values_list("retry_of", flat=True) if pk} - retried:
        retried |= found
        retries = Run.objects.filter(pk__in=found)
    return retried


def _checkpoints() -> Iterator[Prunable]:
    for run in _done_for_good().succeeded().order_by("pk"):
        paths = _below_attempts(run, "checkpoints")
        yield from _unless_empty(_("checkpoints of %(run)s"), _("the run succeeded"), paths, run)


def _failed_attempts(older_than: timedelta) -> Iterator[Prunable]:
    old = _done_for_good().filter(status__in=ENDED_BADLY, finished_at__lt=Now() - older_than)
    why = _("ended more than %(days)d days ago") % {"days": older_than.days}
    for run in old.order_by("pk"):
        paths = _below_attempts(run, "checkpoints") + _below_attempts(run, "output")
        yield from _unless_empty(_("attempts of %(run)s"), why, paths, run)


def _damaged_checkpoints(older_than: timedelta) -> Iterator[Prunable]:
    """Of the runs whose attempts are kept a while yet."""
    young = _done_for_good().filter(status__in=ENDED_BADLY, finished_at__gte=Now() - older_than)
    for run in young.order_by("pk"):
        paths = _below_attempts(run, directories.DAMAGED_CHECKPOINTS)
        yield from _unless_empty(_("damaged checkpoints of %(run)s"), _("no run resumes from them"), paths, run)


def _weights() -> Iterator[Prunable]:
    for model in unneeded_models().select_related("run", "project").order_by("pk"):
        assert model.run is not None  # as the filter says
        # The attempt's output is the same files under a second name.
        output = directories.attempt(model.run.directory, model.attempt) / "output"
        paths = tuple(path for path in (model.directory, output) if path.exists())
        if paths:
            why = _("never promoted, and not an ancestor of a promoted model")
            yield Prunable(_weights_of(model), why, paths, size_of(*paths), model.run, model)


def _weights_of(model: ModelVersion) -> str:
    return _("weights of %(model)s in “%(project)s”") % {"model": model.name, "project": model.project.name}


def _below_attempts(run: Run, pattern: str) -> tuple[Path, ...]:
    return tuple(directories.find(run.directory, pattern))


def _unless_empty(what: str, why: str, paths: tuple[Path, ...], run: Run) -> Iterator[Prunable]:
    if paths:
        name = _("run %(number)d (%(stage)s)") % {"number": run.pk, "stage": run.get_stage_display()}
        yield Prunable(what % {"run": name}, why, paths, size_of(*paths), run)


@transaction.atomic
def _mark_weights_deleted(model: ModelVersion) -> bool:
    """Mark them as deleted, if nothing needs them. The files go afterwards: after a crash they are found again."""
    # Rounds are opened and models promoted under this lock.
    Project.objects.select_for_update(no_key=True).get(pk=model.project_id)
    if not unneeded_models().filter(pk=model.pk).exists():
        return False
    if ModelVersion.objects.filter(pk=model.pk, weights_deleted_at=None).update(weights_deleted_at=Now()):
        audit.record("model.weights_deleted", project=model.project, subject=model.name)
    return True
