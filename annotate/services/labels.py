"""What handing in a label means, whichever kind: once per submission id, and corrected by a newer version only.

The draft of a correction is kept with the assignment that the label ended. Its own draft is empty once the label is
submitted, so what is written there afterwards belongs to a correction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.models import Assignment, Demonstration, Label, Member, Ranking
from annotate.services import reviews
from annotate.services.text import NAME_LIMIT, BadText, clean_draft, clean_text
from annotate.services.work import NotHolder, OtherBody, StaleDraft, close_seat

LabelT = TypeVar("LabelT", Demonstration, Ranking)
FLAGS_LIMIT = 20


def submit(
    model: type[LabelT],
    assignment: Assignment,
    submission_id: UUID,
    *,
    store: Callable[[], LabelT],
    is_same: Callable[[LabelT], bool],
) -> LabelT:
    """Close the seat and store the label. A replay returns the stored one if `is_same`.

    Raises OtherBody for a replay that says something else, NotHolder when the assignment is over.
    """
    try:
        with transaction.atomic():
            close_seat(assignment)
            return store()
    except (NotHolder, IntegrityError):
        stored = model.objects.filter(annotator=assignment.annotator_id, submission_id=submission_id).first()
        if stored is None:
            raise
        return _replayed(stored, stored.assignment_id == assignment.pk and is_same(stored))


def correct(
    label: LabelT,
    annotator: Member,
    submission_id: UUID,
    *,
    store: Callable[[], LabelT],
    is_same: Callable[[LabelT], bool],
) -> LabelT:
    """Store a newer version of `label`. Raises NotHolder for other people's, OtherBody if there is one already."""
    if label.annotator_id != annotator.pk:
        raise NotHolder(_("Only the author can correct a label."))
    try:
        with transaction.atomic():
            newer = store()
            _forget_draft(label)
            reviews.await_review(newer)
            return newer
    except IntegrityError:
        stored = type(label).objects.filter(annotator=annotator, submission_id=submission_id).first()
        if stored is None:
            raise OtherBody(_("This has been corrected in the meantime. The newer version is in “My work”.")) from None
        return _replayed(stored, stored.supersedes_id == label.pk and is_same(stored))


@transaction.atomic
def save_correction_draft(label: Label, *, draft: dict[str, Any], version: int) -> Assignment:
    """Keep `draft` of a correction of `label`, if `version` is the one it was written over.

    Repeating a save whose answer got lost is harmless. Raises StaleDraft, BadText, or NotHolder once a newer version is
    in.
    """
    draft = clean_draft(draft)
    mine = Assignment.objects.filter(pk=label.assignment_id, draft_version=version)
    saved = mine.update(draft=draft, draft_version=version + 1, draft_saved_at=timezone.now())
    # Asked after the update: it has locked the row that a correction submitted at this moment writes to as well.
    if _is_superseded(label):
        raise NotHolder(_("This has been corrected in the meantime. The newer version is in “My work”."))
    stored = Assignment.objects.select_related("item", "annotator").get(pk=label.assignment_id)
    if not saved and (stored.draft_version != version + 1 or stored.draft != draft):
        raise StaleDraft(stored)
    return stored


@transaction.atomic
def give_up_correction(label: Label) -> None:
    """`label` stays as it was submitted; harmless once a newer version is in."""
    if not _is_superseded(label):
        _forget_draft(label)


def clean_flags(flags: Iterable[str]) -> list[str]:
    """`flags` as stored: sorted, each once. Raises BadText."""
    cleaned = sorted({clean_text(flag, limit=NAME_LIMIT) for flag in flags})
    if len(cleaned) > FLAGS_LIMIT:
        raise BadText(_("At most %d flags are allowed.") % FLAGS_LIMIT)
    return cleaned


def _replayed(stored: LabelT, is_same: bool) -> LabelT:
    if not is_same:
        raise OtherBody(_("This was already submitted with different contents."))
    return stored


def _forget_draft(label: Label) -> None:
    """Drop the draft; a window that still has it open finds its version stale."""
    Assignment.objects.filter(pk=label.assignment_id).update(
        draft=None, draft_version=F("draft_version") + 1, draft_saved_at=None
    )


def _is_superseded(label: Label) -> bool:
    return type(label).objects.corrections_of(label).exists()
