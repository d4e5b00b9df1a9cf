"""The one way a status changes: a table of legal moves and a conditional UPDATE that decides who comes first.

Every change that happens is a row of the audit table, written in the same transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models, transaction

from annotate.models import AuditEvent

if TYPE_CHECKING:
    from annotate.models import User


class IllegalMove(Exception):
    """The table of moves does not allow this step."""


class LostRace(Exception):
    """Somebody else moved the row first, or the fence no longer holds it."""


@transaction.atomic
def move_to(row: Any, status: str, *, under: int | None = None, actor: User | None = None, **changes: Any) -> None:
    """Move `row` to `status` and store `changes`, if its class's MOVES allow the step and nobody came first.

    With `under` the move is a worker's: it also needs the row to have that fence still. `actor` is who asked for it.
    Raises IllegalMove or LostRace; the row is then as it was.
    """
    model: type[models.Model] = type(row)
    if status not in row.MOVES[row.status]:
        raise IllegalMove(f"{model.__name__} {row.pk}: {row.status} -> {status}")
    unmoved = model._default_manager.filter(pk=row.pk, status=row.status)
    if under is not None:
        unmoved = unmoved.filter(fence=under)
    if not unmoved.update(status=status, **changes):
        raise LostRace(f"{model.__name__} {row.pk} is no longer {row.status}")
    note(row, status, actor=actor, came_from=row.status)
    row.refresh_from_db()


def note(row: Any, event: str, *, actor: User | None = None, **detail: Any) -> None:
    """Record in the audit table what happened to `row`. Called inside the transaction in which it happens."""
    AuditEvent.objects.create(
        action=f"{type(row).__name__.lower()}.{event}",
        actor=actor,
        project_id=row.project_id,
        subject=row.audit_name,
        detail=detail,
    )
