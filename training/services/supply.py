"""The supply of labels: what a round may use, how much of it there is, and how much is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from django.db.models import Count
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotate.models import Demonstration, Kind, Project, Prompt, Ranking, Split
from annotate.models.labels import LabelQuerySet, LabelT
from training.models import Round, Snapshot, Stage, TrainingSettings


@dataclass(frozen=True, kw_only=True)
class Supply:
    """How many labels and prompts there are; new is what came after the model that would use it was made."""

    demonstrations: int
    new_demonstrations: int
    rankings: int
    new_rankings: int
    tied_rankings: int  # all placed completions equal: kept, but no pair to learn from
    heldout_rankings: int
    train_prompts: int
    heldout_prompts: int


class Missing(NamedTuple):
    """How many labels of which kind are wanted before the next round; 0: it can be opened."""

    kind: str
    number: int


@dataclass
class Readiness:
    """How far the next round is: the answer to annotate.hooks.readiness."""

    sentence: str
    missing: int


def demonstrations(project: Project) -> LabelQuerySet[Demonstration]:
    """The demonstrations that SFT may use."""
    return project.demonstrations.trainable().filter(prompt__withdrawn_at=None, prompt__split=Split.TRAIN)


def rankings(project: Project, split: str) -> LabelQuerySet[Ranking]:
    """The rankings that a reward model may learn from (train), or be measured by (held out)."""
    return project.rankings.trainable().filter(slate__prompt__withdrawn_at=None, slate__prompt__split=split)


def count(project: Project) -> Supply:
    """The supply of `project` as it is now."""
    prompts = Prompt.objects.active().filter(project=project)
    trainable = rankings(project, Split.TRAIN)
    return Supply(
        demonstrations=demonstrations(project).count(),
        new_demonstrations=new_demonstrations(project),
        rankings=trainable.count(),
        new_rankings=new_rankings(project),
        tied_rankings=trainable.annotate(places=Count("placements__place", distinct=True)).filter(places__lt=2).count(),
        heldout_rankings=rankings(project, Split.HELDOUT).count(),
        train_prompts=prompts.filter(split=Split.TRAIN).count(),
        heldout_prompts=prompts.filter(split=Split.HELDOUT).count(),
    )


def next_round_number(project: Project) -> int:
    """The number of the round that is opened next."""
    newest = Round.objects.filter(project=project).order_by("number").last()
    return newest.number + 1 if newest else 1


def new_demonstrations(project: Project) -> int:
    """How many demonstrations came after those that the newest SFT used, or that the running round uses."""
    return _newer(demonstrations(project), project, Stage.SFT).count()


def new_rankings(project: Project) -> int:
    """How many rankings came after those that the newest reward model used, or that the running round uses."""
    return _newer(rankings(project, Split.TRAIN), project, Stage.REWARD).count()


def missing(project: Project, training: TrainingSettings) -> Missing:
    """What the next round needs before it can be opened."""
    demonstrations_short = max(0, training.demonstrations_minimum - new_demonstrations(project))
    rankings_short = max(0, training.rankings_minimum - new_rankings(project))
    if Round.objects.filter(project=project, status=Round.Status.SUCCEEDED).exists():
        # Enough new demonstrations are worth a round of their own; a minimum of 0 must not make every moment right.
        is_enough = not rankings_short or (training.demonstrations_minimum and not demonstrations_short)
        return Missing(Kind.RANKING, 0 if is_enough else rankings_short)
    # Rankings before any round are of answers made elsewhere.
    return Missing(Kind.DEMONSTRATION, demonstrations_short if rankings_short else 0)


def readiness(project: Project) -> Readiness | None:
    """How far the next round is, in a sentence for everybody; None for a project that does not train."""
    training = TrainingSettings.objects.filter(project=project).first()
    if training is None:
        return None
    kind, number = missing(project, training)
    if not number:
        sentence = _("Round %(round)d can train")
    elif kind == Kind.DEMONSTRATION:
        sentence = ngettext(
            "%(missing)d more answer before round %(round)d can train",
            "%(missing)d more answers before round %(round)d can train",
            number,
        )
    else:
        sentence = ngettext(
            "%(missing)d more ranking before round %(round)d can train",
            "%(missing)d more rankings before round %(round)d can train",
            number,
        )
    return Readiness(sentence % {"missing": number, "round": next_round_number(project)}, number)


def _newer(labels: LabelQuerySet[LabelT], project: Project, stage: Stage) -> LabelQuerySet[LabelT]:
    """Those of `labels` that came after the newest snapshot from which `stage` made, or is about to make, a model."""
    snapshots = Snapshot.objects.filter(project=project)
    used = snapshots.filter(model_versions__kind=stage) | snapshots.filter(rounds__status__in=Round.ACTIVE)
    newest = used.order_by("created_at").last()
    return labels.filter(created_at__gt=newest.created_at) if newest else labels
