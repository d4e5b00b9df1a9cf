"""Agreement: of two answers that two people have both placed, how often both place the same one better, or tie them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from itertools import combinations
from typing import NamedTuple

from annotate.models import Placement, Project, Ranking, Slate

MOST_SLATES = 400  # compared, the newest first; limited because a page waits for it
FEWEST = 20  # comparisons needed for a share

Places = Mapping[int, int]  # completion id -> place


class Judge(NamedTuple):
    """One ranking of a slate, as far as agreement needs it."""

    annotator: int
    is_simulated: bool
    places: Places


class Agreement(NamedTuple):
    """How far one member agrees with the people who ranked the same slates."""

    same: int = 0
    compared: int = 0

    @property
    def share(self) -> float | None:
        """None where too few pairs were compared."""
        return self.same / self.compared if self.compared >= FEWEST else None


def agreements(project: Project, *, since: datetime) -> dict[int, Agreement]:
    """The agreement of each member of `project` with the people there, by the member's id, over the newest slates."""
    counts: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0])
    for judges in _judged_by_several(project, since):
        for one, other in combinations(judges, 2):
            same, compared = _compare(one.places, other.places)
            for judge, partner in ((one, other), (other, one)):
                if not partner.is_simulated:
                    counts[judge.annotator][0] += same
                    counts[judge.annotator][1] += compared
    return {pk: Agreement(same, compared) for pk, (same, compared) in counts.items()}


def _compare(one: Places, other: Places) -> tuple[int, int]:
    """Of the pairs that both have placed: how many they judge the same way, and how many there are."""
    both = sorted(one.keys() & other.keys())
    pairs = list(combinations(both, 2))
    same = sum(_sign(one[left] - one[right]) == _sign(other[left] - other[right]) for left, right in pairs)
    return same, len(pairs)


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)


def _judged_by_several(project: Project, since: datetime) -> list[list[Judge]]:
    """The rankings of each slate that several people have ranked, the newest MOST_SLATES of them."""
    newest = Ranking.objects.filter(project=project, annotator__erased_at=None).newest()
    several = Slate.objects.filter(project=project, work_item__submitted_count__gt=1)
    shared = Ranking.objects.filter(project=project, slate__in=several, created_at__gte=since).order_by("-created_at")
    slates = set(shared.values_list("slate", flat=True)[: 2 * MOST_SLATES])
    rankings = newest.filter(slate__in=slates).values_list("pk", "slate", "annotator", "annotator__is_simulated")
    places: defaultdict[int, dict[int, int]] = defaultdict(dict)
    placements = Placement.objects.filter(ranking__in=[pk for pk, *_rest in rankings]).exclude(place=None)
    for ranking, completion, place in placements.values_list("ranking", "completion", "place"):
        places[ranking][completion] = place  # type: ignore[assignment]  # not None, see above
    by_slate: defaultdict[int, list[Judge]] = defaultdict(list)
    for pk, slate, annotator, is_simulated in rankings:
        by_slate[slate].append(Judge(annotator, is_simulated, places[pk]))
    return list(by_slate.values())
