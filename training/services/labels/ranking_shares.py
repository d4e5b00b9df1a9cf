"""Which train rankings the reward model learns from, and which are kept for the watcher.

They are shared by prompt, so that neither model knows what people said of the other's prompts. Near-duplicates count as
one prompt. What decides is a hash: a prompt is on the same side in every round and on every machine, however many
others come and go.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from django.db.models import Q

from annotate.models import Prompt
from training.models import ModelVersion, Snapshot
from training.stages import watcher


def kept_for_watcher(rankings: Mapping[str, int]) -> frozenset[str]:
    """The prompts whose rankings are the watcher's, by folded hash; `rankings` has the train rankings of each.

    None where there are too few rankings, or where one of the two models would get none at all.
    """
    kept = frozenset(folded_hash for folded_hash in rankings if is_watchers(folded_hash))
    is_enough = sum(rankings.values()) >= watcher.WATCHER_MINIMUM and 0 < len(kept) < len(rankings)
    return kept if is_enough else frozenset()


def is_of(model: ModelVersion, snapshot: Snapshot) -> Q:
    """Which of the train rankings in `snapshot` taught `model`, a reward model or a watcher."""
    if not snapshot.counts.get("watcher_rankings"):
        return Q()
    prompts = Prompt.objects.filter(slates__rankings__snapshots=snapshot).distinct()
    kept = [pk for pk, folded_hash in prompts.values_list("pk", "folded_hash") if is_watchers(folded_hash)]
    is_kept = Q(slate__prompt__in=kept)
    return is_kept if model.kind == ModelVersion.Kind.WATCHER else ~is_kept


def is_watchers(folded_hash: str) -> bool:
    """On which side the prompts of a folded hash are, once there is a watcher."""
    # Hashed once more: the folded hash decides already which prompts are held out.
    digest = hashlib.sha256(f"watcher {folded_hash}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < watcher.WATCHER_SHARE
