"""Corrections under way: the draft of a newer version of a label, kept with the assignment that the label ended.

An assignment's draft is empty once its label is handed in; what is written there afterwards belongs to a correction.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.models import Assignment, Label
from annotate.services.text import clean_draft
from annotate.services.work import NotHolder, StaleDraft


@transaction.atomic
def save_draft(label: Label, *, draft: dict[str, Any], version: int) -> Assignment:
    """Keep `draft` of a correction of `label`, if `version` is the one it was written over.

    Repeating a save whose answer got lost is harmless. Raises StaleDraft, BadText, or NotHolder once a newer version is
    in.
    """
    draft = clean_draft(draft)
    mine = Assignment.objects.filter(pk=label.assignment_id, draft_version=version)
    saved = mine.update(draft=draft, draft_version=version + 1, draft_saved_at=timezone.now())
    # Asked after the update: it has locked the row that a correction handed in at this moment writes to as well.
    if _is_superseded(label):
        raise NotHolder(_("This was corrected in the meantime: the newer version is in “My work”."))
    stored = Assignment.objects.select_related("item", "annotator").get(pk=label.assignment_id)
    if not saved and (stored.draft_version != version + 1 or stored.draft != draft):
        raise StaleDraft(stored)
    return stored


@transaction.atomic
def give_up(label: Label) -> None:
    """`label` stays as it was handed in; harmless once a newer version is in."""
    if not _is_superseded(label):
        forget_draft(label)


def forget_draft(label: Label) -> None:
    """Drop the draft; a window that still has it open finds its version stale."""
    Assignment.objects.filter(pk=label.assignment_id).update(
        draft=None, draft_version=F("draft_version") + 1, draft_saved_at=None
    )


def _is_superseded(label: Label) -> bool:
    return type(label).objects.filter(supersedes=label).exists()
