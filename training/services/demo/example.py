"""The example: a project with two finished rounds, loaded from the rows and files of a real one.

Ids are kept as they were recorded, since files name them: it can be loaded only where no project has been yet.
"""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core import serializers
from django.core.management.color import no_style
from django.db import connection, models, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.models import AuditEvent, Notice, Project, QueueCursor, SignInLink, User
from annotate.services import audit
from training.models import Download, Examination, ModelVersion, Run, Simulation, Snapshot, TrainingSettings, Worker
from training.services.demo.project_tables import tables
from training.services.registry import base_models
from training.tiny import recipe

ARCHIVE = Path(recipe.__file__).parent / "example.tar.xz"
SLUG = "example"
ROWS = "rows.json"  # in the archive
# What tells nothing about finished rounds, or is about one installation.
UNRECORDED = (Notice, QueueCursor, SignInLink, Download, Examination, Simulation)
UNREAD = ("checkpoints", "rollouts", "alive")  # in a run's directory: what no page shows
FOLDERS: dict[type[Run | ModelVersion | Snapshot], str] = {Run: "runs", ModelVersion: "models", Snapshot: "snapshots"}


class NotLoaded(Exception):
    """The example cannot be loaded here; the message says why."""


class NotRemoved(Exception):
    """The project cannot be removed; the message says why."""


def load() -> Project:
    """Load the example. Raises NotLoaded where there are projects already, OSError where the disk is full."""
    if Project.objects.exists():
        raise NotLoaded(_("The example can only be loaded before the first project is created."))
    data_dir = Path(settings.DATA_DIR)
    data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".example-", dir=data_dir) as scratch:
        with tarfile.open(ARCHIVE) as archive:
            archive.extractall(scratch, filter=_private)  # noqa: S202  (which is stricter than "data")
        with transaction.atomic():
            project = _store(Path(scratch, ROWS).read_text("utf-8"))
            for base in project.model_versions.bases():
                base_models.copy_built_in(Path(scratch, FOLDERS[ModelVersion], base.directory.name))
            for folder in FOLDERS.values():
                (data_dir / folder).mkdir(exist_ok=True)
                for path in Path(scratch, folder).iterdir():
                    target = data_dir / folder / path.name
                    # After a crash, or with another database before, it is there. No one else's has this id.
                    shutil.rmtree(target, ignore_errors=True)
                    path.replace(target)
    return project


def remove(project: Project, *, actor: User) -> None:
    """Delete the example: all of its rows and files. Its name stays in the audit table. Raises NotRemoved."""
    if not TrainingSettings.objects.filter(project=project, purpose=TrainingSettings.Purpose.EXAMPLE).exists():
        raise NotRemoved(_("Only the example project can be removed, because labels by people are never deleted."))
    if Run.objects.unfinished().filter(project=project).exists():
        raise NotRemoved(_("A run is in progress in this project. Cancel it first."))
    folders = [row.directory for model in FOLDERS for row in model.objects.filter(project=project)]
    with transaction.atomic():
        people = list(project.members.filter(is_simulated=True).values_list("user", flat=True))
        Worker.objects.filter(run__project=project).update(run=None)
        for table in tables():
            table.rows(project)._raw_delete(connection.alias)
        User.objects.filter(pk__in=people, memberships=None).exclude(pk__in=AuditEvent.objects.values("actor")).delete()
        # The audit table is never changed, and what it tells is about this row.
        Project.objects.filter(pk=project.pk).update(removed_at=timezone.now(), slug=f"removed-{project.pk}")
        audit.record("project.removed", actor=actor, project=project, subject=project.name)
        transaction.on_commit(lambda: _delete(folders))


def record(project: Project, target: Path) -> None:
    """Write `project`, whose rounds are finished, as the example. For developers; see `manage.py record_example`."""
    recorded = [table for table in tables() if table.model not in UNRECORDED and not table.model._meta.auto_created]
    people = User.objects.filter(memberships__project=project)
    rows = [*people, project, *(row for table in reversed(recorded) for row in table.rows(project).order_by("pk"))]
    bases = {base.directory for base in project.model_versions.bases()}
    with tempfile.TemporaryDirectory() as scratch, tarfile.open(target, "w:xz", preset=9) as archive:
        text = Path(scratch, ROWS)
        text.write_text(serializers.serialize("json", rows), "utf-8")
        archive.add(text, ROWS, filter=_anonymous)
        for model, folder in FOLDERS.items():
            for row in model.objects.filter(project=project).order_by("pk"):
                if row.directory not in bases and row.directory.is_dir():
                    archive.add(row.directory, f"{folder}/{row.directory.name}", filter=_anonymous)


def _store(text: str) -> Project:
    """The recorded rows, in the order of their foreign keys, with the people of this installation."""
    by_model: defaultdict[type[models.Model], list[Any]] = defaultdict(list)
    relations = []
    for one in serializers.deserialize("json", text):
        by_model[type(one.object)].append(one.object)
        relations += [(one.object, name, ids) for name, ids in (one.m2m_data or {}).items()]
    users = {user.pk: _person(user) for user in by_model.pop(User)}
    for model, rows in by_model.items():
        for field in (field for field in model._meta.concrete_fields if field.related_model is User):
            for row in rows:
                setattr(row, field.attname, users.get(getattr(row, field.attname)))
        model._base_manager.bulk_create(rows, batch_size=500)
    for row, name, ids in relations:
        getattr(row, name).set(ids)
    for statement in connection.ops.sequence_reset_sql(no_style(), list(by_model)):
        with connection.cursor() as cursor:
            cursor.execute(statement)
    return Project.objects.get(slug=SLUG)


def _person(recorded: User) -> int:
    """The id of the account here that stands for the recorded one."""
    user = User.objects.filter(email=recorded.email).first()
    return (user or User.objects.create_user(recorded.email, name=recorded.name)).pk


def _private(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
    """As it is extracted: nothing outside of `folder`, and for the service alone, as all of DATA_DIR."""
    return tarfile.data_filter(member, folder).replace(mode=0o700 if member.isdir() else 0o600, deep=False)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Without the owner on the machine that recorded it; None for what no page shows."""
    if Path(member.name).name in UNREAD:
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.isdir() else 0o644
    return member


def _delete(folders: list[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
