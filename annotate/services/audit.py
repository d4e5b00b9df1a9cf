"""Writes down deeds that mattered. Called inside the transaction of the deed, so that both happen or neither."""

from __future__ import annotations

from typing import Any

from annotate.models import AuditEvent, Project, User


def record(
    action: str, *, actor: User | None = None, project: Project | None = None, subject: str = "", **detail: Any
) -> AuditEvent:
    """Add an event; `action` is noun.verb, as prompt.withdrawn."""
    return AuditEvent.objects.create(action=action, actor=actor, project=project, subject=subject[:120], detail=detail)
