"""Trainable labels: what a round may use, how much of it there is, and how much is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from django.db.models import Count, Max, Q
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotate.models import Demonstration, Kind, Project, Prompt, Ranking, Split
from annotate.models.labels import LabelQuerySet, LabelT
from training.models import ModelVersion, Round, Snapshot, TrainingSettings
from training.services.labels import ranking_shares
from training.stages import Stage
from training.stages.planning import LabelCounts

MOST_COUNTED = 10_000  # new labels of one kind, unless a minimum is larger


class Missing(NamedTuple):
    """How many labels of which kind are wanted before the next round; 0: there are enough."""

    kind: str
    number: int


class RoundCounts(NamedTuple):
    """The rounds of a project so far."""

    newest: int = 0  # its number
    active: int | None = None  # the number of the one that runs
    succeeded: int = 0  # how many did


@dataclass
class Readiness:
    """How far the next round is: the answer to annotate.hooks.readiness."""

    sentence: str
    missing: int
    # What the overview draws. New are labels that no round has used yet; of one project not beyond MOST_COUNTED.
    new_demonstrations: int = field(default=0, compare=False)
    new_rankings: int = field(default=0, compare=False)
    can_start: bool = field(default=False, compare=False)  # by its labels, its base model and the rounds before it


def demonstrations(project: Project) -> LabelQuerySet[Demonstration]:
    """The demonstrations that SFT may use."""
    return _demonstrations([project])


def rankings(project: Project, split: str) -> LabelQuerySet[Ranking]:
    """The rankings that a reward model may learn from (train), or be measured by (held out)."""
    return _rankings([project], split)


def count(project: Project) -> LabelCounts:
    """The labels and prompts of `project` as they are now."""
    prompts = Prompt.objects.active().filter(project=project)
    trainable = rankings(project, Split.TRAIN)
    all_equal = trainable.annotate(places=Count("placements__place", distinct=True)).filter(places__lt=2)
    usable, new = _by_prompt(trainable), _by_prompt(_newer(trainable, [project], Stage.REWARD))
    tied = Counter(all_equal.values_list("slate__prompt__folded_hash", flat=True))
    kept = ranking_shares.kept_for_watcher(usable)
    return LabelCounts(
        demonstrations=demonstrations(project).count(),
        new_demonstrations=_newer(demonstrations(project), [project], Stage.SFT).count(),
        rankings=sum(usable[prompt] for prompt in usable if prompt not in kept),
        new_rankings=sum(new[prompt] for prompt in new if prompt not in kept),
        tied_rankings=sum(tied[prompt] for prompt in tied if prompt not in kept),
        watcher_rankings=sum(usable[prompt] for prompt in kept),
        new_watcher_rankings=sum(new[prompt] for prompt in kept),
        tied_watcher_rankings=sum(tied[prompt] for prompt in kept),
        heldout_rankings=rankings(project, Split.HELDOUT).count(),
        train_prompts=prompts.filter(split=Split.TRAIN).count(),
        heldout_prompts=prompts.filter(split=Split.HELDOUT).count(),
    )


def readiness(project: Project) -> Readiness | None:
    """How far the next round is, in a sentence for everybody; None for a project that does not train."""
    return readiness_of([project]).get(project.pk)


def readiness_of(projects: Sequence[Project]) -> dict[int, Readiness]:
    """The readiness of those of `projects` that train, by their ids; any number of projects costs the same."""
    settings = list(TrainingSettings.objects.filter(project__in=projects))
    minima = [minimum for each in settings for minimum in (each.demonstrations_minimum, each.rankings_minimum)]
    most = max(MOST_COUNTED, *minima, 0)
    written = _per_project(_newer(_demonstrations(projects), projects, Stage.SFT), projects, most)
    ranked = _per_project(_newer(_rankings(projects, Split.TRAIN), projects, Stage.REWARD), projects, most)
    bases = ModelVersion.objects.bases().filter(project__in=projects)
    with_base, rounds = set(bases.values_list("project", flat=True)), _rounds_so_far(projects)
    found = {}
    for training in settings:
        pk = training.project_id
        so_far = rounds.get(pk, RoundCounts())
        missing, has_base = _missing(training, so_far, written[pk], ranked[pk]), pk in with_base
        found[pk] = Readiness(
            sentence=_sentence(missing, so_far, has_base=has_base),
            missing=missing.number,
            new_demonstrations=written[pk],
            new_rankings=ranked[pk],
            can_start=has_base and not missing.number and so_far.active is None,
        )
    return found


def _missing(training: TrainingSettings, so_far: RoundCounts, new_demonstrations: int, new_rankings: int) -> Missing:
    demonstrations_short = max(0, training.demonstrations_minimum - new_demonstrations)
    rankings_short = max(0, training.rankings_minimum - new_rankings)
    if so_far.succeeded or so_far.active:
        # Enough new demonstrations are worth a round of their own.
        return Missing(Kind.RANKING, rankings_short if demonstrations_short else 0)
    # Rankings before any round are of answers made elsewhere.
    return Missing(Kind.DEMONSTRATION, demonstrations_short if rankings_short else 0)


def _sentence(missing: Missing, so_far: RoundCounts, *, has_base: bool) -> str:
    """What everybody reads. It says that the next round can train only where that round can be opened."""
    if not missing.number:
        sentence = _can_train(so_far, has_base=has_base)
    elif missing.kind == Kind.DEMONSTRATION:
        sentence = ngettext(
            "%(missing)d more answer before round %(round)d can train",
            "%(missing)d more answers before round %(round)d can train",
            missing.number,
        )
    else:
        sentence = ngettext(
            "%(missing)d more ranking before round %(round)d can train",
            "%(missing)d more rankings before round %(round)d can train",
            missing.number,
        )
    return sentence % {"missing": missing.number, "round": so_far.newest + 1, "active": so_far.active}


def _can_train(so_far: RoundCounts, *, has_base: bool) -> str:
    if not has_base:
        return _("Round %(round)d can train once the base model is ready")
    if so_far.active:
        return _("Round %(round)d can train once round %(active)d is done")
    return _("Round %(round)d can train")


def _demonstrations(projects: Sequence[Project]) -> LabelQuerySet[Demonstration]:
    return Demonstration.objects.filter(project__in=projects).trainable().of_split(Split.TRAIN)


def _rankings(projects: Sequence[Project], split: str) -> LabelQuerySet[Ranking]:
    return Ranking.objects.filter(project__in=projects).trainable().of_split(split)


def _newer(labels: LabelQuerySet[LabelT], projects: Sequence[Project], stage: Stage) -> LabelQuerySet[LabelT]:
    """Those of `labels` that came after the newest snapshot from which `stage` made, or is about to make, a model.

    What a round used that failed or was cancelled counts as new: nothing came of it that people could rank.
    """
    uses = Q(model_versions__kind=stage, rounds__status=Round.Status.SUCCEEDED) | Q(rounds__status__in=Round.ACTIVE)
    snapshots = Snapshot.objects.filter(uses, project__in=projects)
    frozen_at = dict(snapshots.order_by().values_list("project").annotate(Max("created_at")))
    is_newer = Q(project__in=[project for project in projects if project.pk not in frozen_at])
    for pk, newest in frozen_at.items():
        is_newer |= Q(project=pk, created_at__gt=newest)
    return labels.filter(is_newer)


def _by_prompt(rankings: LabelQuerySet[Ranking]) -> Counter[str]:
    """How many of `rankings` there are of each prompt, by its folded hash: no text is read."""
    return Counter(dict(rankings.order_by().values_list("slate__prompt__folded_hash").annotate(Count("pk"))))


def _per_project(labels: LabelQuerySet[LabelT], projects: Sequence[Project], most: int) -> Counter[int]:
    if len(projects) == 1:  # most pages ask about one, and it may have very many
        return Counter({projects[0].pk: labels[:most].count()})
    return Counter(dict(labels.order_by().values_list("project").annotate(Count("pk"))))


def _rounds_so_far(projects: Sequence[Project]) -> dict[int, RoundCounts]:
    rounds = Round.objects.filter(project__in=projects).order_by().values_list("project")
    counted = rounds.annotate(
        newest=Max("number"),
        active=Max("number", filter=Q(status__in=Round.ACTIVE)),
        succeeded=Count("pk", filter=Q(status=Round.Status.SUCCEEDED)),
    )
    return {pk: RoundCounts(*of_project) for pk, *of_project in counted}
