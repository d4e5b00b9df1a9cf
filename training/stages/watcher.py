"""The watcher, on pages "independent judge": a reward model that PPO does not climb, and that says when to stop.

It is trained as the reward model is, on rankings that this never sees: some prompts are kept for it, and a prompt never
changes sides. Which ones is decided in training/services/labels/ranking_shares.py.
"""

from __future__ import annotations

from dataclasses import replace

from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from training.rlhf.config import WatcherConfig
from training.stages.definition import Stage
from training.stages.planning import ParentRole, Situation, StagePlan
from training.stages.reward import REWARD

WATCHER_SHARE = 1 / 3  # of the prompts with train rankings: the reward model needs most of them
# Train rankings in all. A third of fewer trains a judge that hardly knows better than chance: it stops PPO where that
# still helps, or not at all, while the reward model misses what was kept from it.
WATCHER_MINIMUM = 200


def plan(now: Situation) -> StagePlan:
    """A watcher is trained with each reward model, where there are enough rankings to keep some for it."""
    labels = now.labels
    if not now.makes_here(Stage.REWARD):
        reason = gettext("There is no new reward model to watch over.")
    elif not labels.watcher_rankings:
        reason = _why_nothing_is_kept(now)
    elif labels.tied_watcher_rankings == labels.watcher_rankings:
        reason = gettext("Every ranking that is kept for it is a tie, so there are no preferences to learn from.")
    else:
        reason = ""
    counts = {
        "watcher_rankings": labels.watcher_rankings,
        "new_rankings": labels.new_watcher_rankings,
        "tied_rankings": labels.tied_watcher_rankings,
    }
    return StagePlan(stage=Stage.WATCHER, reason=reason, parents={ParentRole.POLICY: now.sft}, counts=counts)


def _why_nothing_is_kept(now: Situation) -> str:
    """Why the reward model gets all rankings; a project that had a judge before is told that it has none now."""
    if now.labels.rankings < WATCHER_MINIMUM:
        text = ngettext(
            "%(number)d ranking is too few to keep some for an independent judge: that takes %(minimum)d.",
            "%(number)d rankings are too few to keep some for an independent judge: that takes %(minimum)d.",
            now.labels.rankings,
        )
        reason = text % {"number": now.labels.rankings, "minimum": WATCHER_MINIMUM}
    else:
        reason = gettext("The rankings are of too few different prompts to keep some for an independent judge.")
    if before := now.newest.get(WATCHER.kind):
        reason += " " + gettext("PPO goes without one now; %(model)s was the last.") % {"model": before.name}
    return reason


WATCHER = replace(
    REWARD,
    name=Stage.WATCHER,
    label=_("independent judge"),
    short_label=_("Judge"),
    purpose=_("Trains a second reward model on rankings the first never sees, to tell when PPO should stop."),
    config=WatcherConfig,
    data=("watcher_rankings", "demonstrations"),
    kind="watcher",
    plan=plan,
    counts=("watcher_rankings",),
)
