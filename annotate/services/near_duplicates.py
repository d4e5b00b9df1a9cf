"""Which prompts are almost the same: their texts differ in case, spacing or composition only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from django.db.models import Count, Max, Min

from annotate.models import Prompt


class NearDuplicates(NamedTuple):
    """The others that are almost a prompt."""

    one: Prompt  # the first of them, or where that is the prompt itself, the last
    number: int  # of all of them


def near_duplicates_of(prompts: Sequence[Prompt]) -> dict[int, NearDuplicates]:
    """Those of `prompts`, which are of one project, that have near-duplicates which are not withdrawn, by their ids."""
    if not prompts:
        return {}
    active = Prompt.objects.active().filter(project=prompts[0].project_id)
    alike = active.filter(folded_hash__in={prompt.folded_hash for prompt in prompts}).order_by().values("folded_hash")
    kinds = {row["folded_hash"]: row for row in alike.annotate(n=Count("pk"), first=Min("pk"), last=Max("pk"))}
    named = Prompt.objects.in_bulk({kind[end] for kind in kinds.values() if kind["n"] > 1 for end in ("first", "last")})
    found = {}
    for prompt in prompts:
        kind = kinds.get(prompt.folded_hash)
        if kind and kind["n"] > 1:
            other = kind["last"] if kind["first"] == prompt.pk else kind["first"]
            found[prompt.pk] = NearDuplicates(named[other], kind["n"] - 1)
    return found
