"""The memory plan in words: where a stage fits, and how the worker's count of it stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.template.defaultfilters import capfirst, filesizeformat
from django.utils.translation import gettext as _

from training import stages
from training.models import Worker
from training.services.planning.failure_rules import rule_of
from training.services.planning.memory_plan import StageMemory

NAMED = 3  # workers of a list


def where(stage: StageMemory) -> str:
    """Where it fits, behind what it needs; empty where no worker has said how much memory it has."""
    fits, lacks = stage.fits, stage.lacks
    if fits and lacks:
        return _("fits on %(fits)s, not on %(lacks)s") % {"fits": names(fits), "lacks": names(lacks)}
    if len(fits) > 1:
        least = min(worker.memory or 0 for worker in fits)
        return _("fits on every gpu-worker, the smallest has %(memory)s") % {"memory": filesizeformat(least)}
    if fits:
        return _("%(name)s has %(memory)s") % {"name": fits[0].name, "memory": filesizeformat(stage.there)}
    if lacks:
        too_little = {"missing": filesizeformat(stage.missing), "memory": filesizeformat(stage.there)}
        if not stage.is_counted:
            return _("%(memory)s is there, which may be too little") % too_little
        return _("does not fit: %(memory)s is there, %(missing)s too little") % too_little
    return ""


def does_not_fit(stage: StageMemory) -> str:
    """That a stage that was counted does not fit, where and by how much, and what its lightest settings would need."""
    said = {
        "stage": capfirst(str(stages.find(stage.stage).label)),
        "needed": filesizeformat(stage.needed),
        "missing": filesizeformat(stage.missing),
        "there": filesizeformat(stage.there),
        "fits": names(stage.fits),
        "lacks": names(stage.lacks),
    }
    if stage.fits:
        sentence = _(
            "%(stage)s needs %(needed)s of memory. It fits on %(fits)s, not on %(lacks)s; any of them may run it."
        )
    else:
        sentence = _(
            "%(stage)s does not fit on any gpu-worker: it needs %(needed)s of memory, %(there)s is there, "
            "%(missing)s too little."
        )
    if not stage.settings:
        sentence += " " + _("Even with the lightest settings it needs %(smallest)s.")
    return sentence % (said | {"smallest": filesizeformat(stage.smallest)})


def not_counted(ending: dict[str, Any]) -> str:
    """Why something could not be counted, by what the engine left as ending.json."""
    rule, sentence = rule_of(ending.get("kind", "")), ending.get("sentence", "")
    return f"{rule.sentence} ({sentence})" if sentence else str(rule.sentence)


def names(workers: Sequence[Worker]) -> str:
    """Workers with what they have, some of them where there are many."""
    known = [f"{worker.name} ({filesizeformat(worker.memory or 0)})" for worker in workers[:NAMED]]
    more = len(workers) - len(known)
    return ", ".join(known) + (_(" and %(number)d more") % {"number": more} if more else "")
