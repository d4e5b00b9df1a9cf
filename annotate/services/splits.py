"""Which prompts are held out: decided once per group, by a hash that gives the same answer on every machine."""

from __future__ import annotations

import hashlib
from math import ceil

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

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
            "This project has no held-out prompts, so models cannot be evaluated on prompts they have not seen. The"
            " share is set when a project is created; create a new project if you need this."
        )
    if not heldout:
        none = ngettext("the only prompt is not held out", "none of the %(number)d prompts is held out", train)
        return _(
            "Models cannot be evaluated: %(none)s. Add more prompts:"
            " %(percent)d%% of prompt groups are held out, so about %(enough)d groups nearly always include one."
        ) % {"none": none % {"number": train}, "percent": round(share * 100), "enough": ceil(USUALLY_ENOUGH / share)}
    if not train:
        every = ngettext("the only prompt is held out", "all %(number)d prompts are held out", heldout)
        return _(
            "Nothing can be written or trained: %(every)s. Prompts of one group stay on the"
            " same side, so add prompts in other groups or without a group: %(percent)d%% of them will be for training."
        ) % {"every": every % {"number": heldout}, "percent": round((1 - share) * 100)}
    return ""
