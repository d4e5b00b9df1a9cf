"""What handing in a label means, whichever kind: once per submission id, and corrected by a newer version only."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from annotate.models import Assignment, Member
from annotate.models.labels import LabelT
from annotate.services import corrections
from annotate.services.text import NAME_LIMIT, BadText, clean_text
from annotate.services.work import NotHolder, OtherBody, close_seat

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
        raise NotHolder(_("Only its author corrects a label."))
    try:
        with transaction.atomic():
            newer = store()
            corrections.forget_draft(label)
            return newer
    except IntegrityError:
        stored = type(label).objects.filter(annotator=annotator, submission_id=submission_id).first()
        if stored is None:
            raise OtherBody(_("This was corrected in the meantime: the newer version is in “My work”.")) from None
        return _replayed(stored, stored.supersedes_id == label.pk and is_same(stored))


def clean_flags(flags: Iterable[str]) -> list[str]:
    """`flags` as stored: sorted, each once. Raises BadText."""
    cleaned = sorted({clean_text(flag, limit=NAME_LIMIT) for flag in flags})
    if len(cleaned) > FLAGS_LIMIT:
        raise BadText(_("At most %d flags fit.") % FLAGS_LIMIT)
    return cleaned


def _replayed(stored: LabelT, is_same: bool) -> LabelT:
    if not is_same:
        raise OtherBody(_("This was submitted already, with other contents."))
    return stored
