"""Lineage: which labels, through which models, brought which answers, round by round.

The same rounds are drawn as a picture (lineage_picture.py) and written as a list.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from django.db.models import Q

from annotate.models import Kind, Project
from training.models import ModelVersion, Round, Run, Snapshot
from training.services.planning import plans
from training.stages import Stage

MOST_ROUNDS = 12  # that fit a picture which can still be read
RANKED = (ModelVersion.Kind.REWARD, ModelVersion.Kind.WATCHER)  # what learns from rankings itself


@dataclass(frozen=True, kw_only=True)
class LineageRound:
    """One round in the lineage: its labels, the models it made, the answers it brought."""

    number: int
    snapshot: Snapshot | None
    models: list[ModelVersion]
    slates: int  # sets of answers that went to the people who rank
    writers: list[str]  # the models that wrote them, newest first


class Teacher(NamedTuple):
    """The labels of one kind that a model learned from, and the model that was trained on them directly."""

    kind: str  # a Kind of work: demonstration or ranking
    model: ModelVersion
    snapshot: Snapshot

    @property
    def rankings(self) -> int:
        """How many rankings the model learned from, of those in its snapshot."""
        name = "watcher_rankings" if self.model.kind == ModelVersion.Kind.WATCHER else "rankings"
        return int(self.snapshot.counts.get(name, 0))


def base_models(project: Project) -> list[ModelVersion]:
    """What the first round started from."""
    return list(ModelVersion.objects.bases().filter(project=project).order_by("number"))


def rounds(project: Project) -> list[LineageRound]:
    """The newest rounds that made something, oldest first."""
    made = Q(runs__model_version__isnull=False) | Q(runs__stage=Stage.SAMPLING, runs__status=Run.Status.SUCCEEDED)
    productive = Round.objects.filter(made, project=project).distinct().select_related("snapshot").order_by("-number")
    newest = list(productive[:MOST_ROUNDS])[::-1]
    models = ModelVersion.objects.filter(run__round__in=newest).order_by("pk")
    models = models.select_related("run", "parent", "reward", "reference", "watcher", "stands_on")
    sampled = {
        run.round_id: run
        for run in Run.objects.filter(round__in=newest, stage=Stage.SAMPLING, status=Run.Status.SUCCEEDED)
    }
    return [_round(round, models, sampled.get(round.pk)) for round in newest]


def teachers(model: ModelVersion) -> list[Teacher]:
    """The labels that made `model`: what people wrote, and what they ranked."""
    wrote = _taught_by_answers(model)
    ranked = model if model.kind in RANKED else model.reward
    found = ((Kind.DEMONSTRATION, wrote), (Kind.RANKING, ranked))
    return [Teacher(kind, teacher, teacher.snapshot) for kind, teacher in found if teacher and teacher.snapshot]


def _taught_by_answers(model: ModelVersion) -> ModelVersion | None:
    """The SFT that `model` is, or that it comes from; None where there was none."""
    origin: ModelVersion | None = model
    if model.kind == ModelVersion.Kind.PPO:
        origin = model.reference  # it may have started from the champion, and is kept near the SFT all the same
    elif model.kind in RANKED:
        origin = model.parent
    return origin if origin and origin.kind == ModelVersion.Kind.SFT else None


def _round(round: Round, models: Iterable[ModelVersion], sampling: Run | None) -> LineageRound:
    slates = int(sampling.metrics.get("sampling/slates", 0)) if sampling else 0
    return LineageRound(
        number=round.number,
        snapshot=round.snapshot,
        models=[model for model in models if model.run and model.run.round_id == round.pk],
        slates=slates,
        writers=_writers(round) if slates else [],
    )


def _writers(round: Round) -> list[str]:
    planned = [stage for stage in plans.load(round).stages if stage.stage == Stage.SAMPLING]
    parents = planned[0].parents if planned else {}
    return [parents[role].name for role in ("policy", "parent") if role in parents]
