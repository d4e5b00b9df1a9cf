"""Projects: making one, changing what its admins decide, editing the guidelines."""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError, transaction
from django.forms import ModelForm
from django.utils.text import slugify

from annotate.models import Member, Project, Role, User
from annotate.services import audit

RESERVED_SLUGS = {"new"}  # an address of our own under /projects/


class GuidelinesChanged(Exception):
    """Someone else saved the guidelines in the meantime; `current` is their text."""

    def __init__(self, current: str) -> None:
        super().__init__(current)
        self.current = current


@transaction.atomic
def create(project: Project, *, creator: User, training_form: ModelForm[Any] | None = None) -> Project:
    """Store a new project with a free address, and its training settings; its creator becomes its first admin."""
    _save_with_free_slug(project)
    Member.objects.create(project=project, user=creator, role=Role.ADMIN)
    if training_form:
        training_form.save()
    audit.record("project.created", actor=creator, project=project, subject=project.name)
    return project


@transaction.atomic
def change(project: Project, *, changed: list[str], actor: User, training_form: ModelForm[Any] | None = None) -> None:
    """Store the settings that `changed` names, and those of `training_form`."""
    project.save(update_fields=changed)  # someone else may have changed the others in the meantime
    if training_form:
        training_form.save()
        changed = changed + training_form.changed_data
    audit.record("project.changed", actor=actor, project=project, subject=project.name, fields=sorted(changed))


@transaction.atomic
def edit_guidelines(project: Project, *, text: str, before: str, actor: User) -> None:
    """Replace the guidelines if they are still those the editor began with. Raises GuidelinesChanged."""
    current = Project.objects.select_for_update(no_key=True).get(pk=project.pk).guidelines
    if current != before and current != text:
        raise GuidelinesChanged(current)
    Project.objects.filter(pk=project.pk).update(guidelines=text)
    audit.record("guidelines.changed", actor=actor, project=project, before=before)


def _save_with_free_slug(project: Project) -> None:
    """The loser of a race for an address takes the next one."""
    while True:
        project.slug = _free_slug(project.name)
        try:
            with transaction.atomic():
                project.save(force_insert=True)
        except IntegrityError:
            if not Project.objects.filter(slug=project.slug).exists():
                raise
        else:
            return


def _free_slug(name: str) -> str:
    stem = slugify(name)[:50] or "project"
    taken = set(Project.objects.filter(slug__startswith=stem).values_list("slug", flat=True)) | RESERVED_SLUGS
    number, slug = 1, stem
    while slug in taken:
        number += 1
        slug = f"{stem}-{number}"
    return slug
