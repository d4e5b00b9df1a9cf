"""Writes down deeds that mattered. Called inside the transaction of the deed, so that both happen or neither.

Rows are never changed, see annotate.models.audit; who asks to be forgotten is taken out of them.
"""

from __future__ import annotations

from typing import Any

from django.db.models import Q

from annotate.models import AuditEvent, Project, User


def record(
    action: str, *, actor: User | None = None, project: Project | None = None, subject: str = "", **detail: Any
) -> AuditEvent:
    """Add an event; `action` is noun.verb, as prompt.withdrawn."""
    return AuditEvent.objects.create(action=action, actor=actor, project=project, subject=subject[:120], detail=detail)


def forget(user: User, *, project: Project, also_outside: bool) -> None:
    """Take `user` out of the events of `project`; with `also_outside`, of those that belong to no project, too."""
    where = Q(project=project) | Q(project=None) if also_outside else Q(project=project)
    events = AuditEvent.objects.filter(where).naming(user)
    events.filter(subject__iexact=user.email).update(subject="", is_erased=True)
    events.filter(actor=user).update(actor=None, is_erased=True)
