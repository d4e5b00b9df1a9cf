"""Which prompts are held out: decided once per group, by a hash that gives the same answer on every machine."""

from __future__ import annotations

import hashlib

from django.utils.translation import gettext as _

from annotate.models.projects import Project
from annotate.models.prompts import Split


def split_of(group: str, heldout_share: float) -> Split:
    """The split of every prompt of `group`; `heldout_share` (0 to 1) of all groups are held out."""
    digest = hashlib.sha256(group.encode()).digest()
    fraction = int.from_bytes(digest[:8], "big") / 2**64
    return Split.HELDOUT if fraction < heldout_share else Split.TRAIN


def warning(project: Project, *, train: int, heldout: int) -> str:
    """What cannot be done while all prompts stand on one side, and what helps; empty where nothing is wrong.

    `train` and `heldout` count those that were not withdrawn.
    """
    if heldout and not train:
        return _(
            "All prompts are held out: nothing can be written or trained. Prompts of one group stand on one side; "
            "add prompts of other groups, or without a group."
        )
    if heldout or not train:
        return ""
    if not project.heldout_share:
        return _(
            "No prompt is held out, as was chosen when the project was made: what a model has learned can be "
            "measured only in a project that holds some out."
        )
    return _(
        "No prompt is held out: what a model has learned cannot be measured. About %(share)d %% of all groups, "
        "and of prompts without a group, are held out by their texts: add more of them."
    ) % {"share": round(project.heldout_share * 100)}
