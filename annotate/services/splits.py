"""Which prompts are held out: decided once per group, by a hash that gives the same answer on every machine."""

from __future__ import annotations

import hashlib
from math import ceil

from django.utils.translation import gettext as _

from annotate.models.projects import Project
from annotate.models.prompts import Split

USUALLY_ENOUGH = 3  # groups on the smaller side, on average: then it is empty in one project of twenty only


def split_of(group: str, heldout_share: float) -> Split:
    """The split of every prompt of `group`; `heldout_share` (0 to 1) of all groups are held out."""
    digest = hashlib.sha256(group.encode()).digest()
    fraction = int.from_bytes(digest[:8], "big") / 2**64
    return Split.HELDOUT if fraction < heldout_share else Split.TRAIN


def warning(project: Project, *, train: int, heldout: int) -> str:
    """What cannot be done while one side of the split is empty, and what helps; empty where nothing is wrong.

    `train` and `heldout` are the active prompts of `project` on either side.
    """
    share = project.heldout_share
    if not train and not heldout:
        return ""
    if not share:
        return _(
            "This project holds out no prompts, so nothing can be measured on prompts that the models have not seen."
            " The share is chosen when a project is made: make another one where that matters."
        )
    if not heldout:
        return _(
            "Nothing can be measured: of %(number)d prompts none is held out. Add more: %(percent)d%% of all groups"
            " of prompts are held out, and among about %(enough)d of them there is nearly always one."
        ) % {"number": train, "percent": round(share * 100), "enough": ceil(USUALLY_ENOUGH / share)}
    if not train:
        return _(
            "Nothing can be written or trained: all %(number)d prompts are held out. Prompts of one group stay on one"
            " side, so add prompts of other groups, or without a group: %(percent)d%% of them are to train on."
        ) % {"number": heldout, "percent": round((1 - share) * 100)}
    return ""
