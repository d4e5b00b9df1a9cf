"""An export: one kind of record of a project as a file, sent while it is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

from django.utils.translation import gettext as _

from annotate.models import User
from annotate.services import audit
from annotate.services.exporting import records
from annotate.services.exporting.formats import FORMATS
from annotate.services.exporting.records import COLUMNS, Record
from annotate.services.exporting.selection import Selection

KINDS: dict[str, Callable[[Selection], Iterator[Record]]] = {
    "demonstrations": records.demonstrations,
    "rankings": records.rankings,
    "comparisons": records.comparisons,
    "prompts": records.prompts,
    "completions": records.completions,
}


class Gone(Exception):
    """The files of a round's snapshot no longer exist; the message says so."""


@dataclass(frozen=True)
class Export:
    """What is asked for: one of KINDS, in one of FORMATS."""

    kind: str
    format: str
    selection: Selection

    @property
    def filename(self) -> str:
        frozen = self.selection.frozen
        which = f"round-{frozen.round}" if frozen else self.selection.labels
        return f"{self.selection.project.slug}-{self.kind}-{which}.{self.format}"

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the response."""
        disposition = f'attachment; filename="{self.filename}"'
        return {"Content-Type": FORMATS[self.format].content_type, "Content-Disposition": disposition}

    def pieces(self) -> Iterator[bytes]:
        """The file, a few hundred kilobytes at a time."""
        pieces = FORMATS[self.format].encode(COLUMNS[self.kind], KINDS[self.kind](self.selection))
        return (piece.encode() for piece in pieces)


def start(export: Export, *, actor: User | None) -> Iterator[bytes]:
    """The pieces of `export`, and a record in the audit log of who took what. Raises Gone.

    The first piece is made at once: what cannot be exported fails here, not in the middle of a response.
    """
    frozen = export.selection.frozen
    which = {"round": frozen.round} if frozen else {"labels": str(export.selection.labels)}
    project = export.selection.project
    pieces = export.pieces()
    try:
        first = next(pieces, b"")
    except FileNotFoundError as error:
        raise Gone(
            _("The files of this round's snapshot no longer exist, so its prompts cannot be exported.")
        ) from error
    audit.record("labels.exported", actor=actor, project=project, subject=export.kind, format=export.format, **which)
    return chain([first], pieces)
