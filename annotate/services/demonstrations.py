"""Demonstrations are submitted, and corrected by a newer version."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from annotate.models import Assignment, Demonstration, Member
from annotate.services import labels
from annotate.services.text import MESSAGE_LIMIT, NOTE_LIMIT, clean_filled_text, clean_text


def submit(
    assignment: Assignment, *, submission_id: UUID, text: str, flags: Iterable[str] = (), note: str = ""
) -> Demonstration:
    """Store `text` as the holder's answer. A replay of `submission_id` returns the stored one.

    Raises BadText; OtherBody if the replay says something else; NotHolder if the assignment is over.
    """
    content = _cleaned(text, flags, note)

    def store() -> Demonstration:
        return Demonstration.objects.create(
            project_id=assignment.project_id,
            annotator_id=assignment.annotator_id,
            assignment=assignment,
            submission_id=submission_id,
            prompt_id=assignment.item.prompt_id,  # type: ignore[misc]  # set, as the item's kind says
            **content,
        )

    return labels.submit(Demonstration, assignment, submission_id, store=store, is_same=lambda old: _has(old, content))


def correct(
    demonstration: Demonstration,
    *,
    annotator: Member,
    submission_id: UUID,
    text: str,
    flags: Iterable[str] = (),
    note: str = "",
) -> Demonstration:
    """Store a newer version of `demonstration`. Raises BadText, OtherBody or NotHolder."""
    content = _cleaned(text, flags, note)

    def store() -> Demonstration:
        return Demonstration.objects.create(
            project_id=demonstration.project_id,
            annotator=annotator,
            assignment_id=demonstration.assignment_id,
            submission_id=submission_id,
            prompt_id=demonstration.prompt_id,
            supersedes=demonstration,
            **content,
        )

    return labels.correct(demonstration, annotator, submission_id, store=store, is_same=lambda old: _has(old, content))


def _cleaned(text: str, flags: Iterable[str], note: str) -> dict[str, Any]:
    return {
        "text": clean_filled_text(text, limit=MESSAGE_LIMIT),
        "flags": labels.clean_flags(flags),
        "note": clean_text(note, limit=NOTE_LIMIT),
    }


def _has(demonstration: Demonstration, content: dict[str, Any]) -> bool:
    """Whether `demonstration`, which is stored, says just what `content` says."""
    return {name: getattr(demonstration, name) for name in content} == content
