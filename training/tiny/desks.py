"""The desk of a simulated person: where work comes from and labels go. Here it is the REST API, as for any program.

The other desk is in this process, for the people of a demo project: services/demo/people.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from training.tiny.client import Client

Label = dict[str, Any]  # {"text": …} for a demonstration, {"places": {completion id: place}} for a ranking


@dataclass(frozen=True)
class Piece:
    """One piece of work as a simulated person sees it."""

    id: int  # of the assignment
    kind: str
    question: str  # the last user turn
    draft_version: int
    texts: dict[str, str] = field(default_factory=dict)  # completion id -> answer, where answers are ranked


class Desk(Protocol):
    """What one simulated person can do in one project."""

    def claim(self, kind: str) -> Piece | None: ...

    def skip(self, piece: Piece, reason: str) -> None: ...

    def save_draft(self, piece: Piece, label: Label) -> None: ...

    def submit(self, piece: Piece, label: Label, submission_id: UUID) -> int:
        """The id of the label."""


class ApiDesk:
    """A desk behind an API token."""

    def __init__(self, client: Client, project: str) -> None:
        self.client = client
        self.project = project

    def claim(self, kind: str) -> Piece | None:
        assignment = self.client.send("POST", f"projects/{self.project}/claim/", {"kind": kind})["assignment"]
        if assignment is None:
            return None
        return Piece(
            id=assignment["id"],
            kind=assignment["kind"],
            question=assignment["messages"][-1]["content"],
            draft_version=assignment["draft_version"],
            texts={str(completion["id"]): completion["text"] for completion in assignment.get("completions") or []},
        )

    def skip(self, piece: Piece, reason: str) -> None:
        self.client.send("POST", f"assignments/{piece.id}/skip/", {"reason": reason})

    def save_draft(self, piece: Piece, label: Label) -> None:
        draft = {"draft_version": piece.draft_version, "draft": label}
        self.client.send("PUT", f"assignments/{piece.id}/draft/", draft)

    def submit(self, piece: Piece, label: Label, submission_id: UUID) -> int:
        body = {"submission_id": str(submission_id), **label}
        stored: int = self.client.send("POST", f"assignments/{piece.id}/{piece.kind}/", body)["id"]
        return stored
