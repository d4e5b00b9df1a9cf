"""Questions that an admin puts to chosen models: each is answered by a sampling run on a gpu-worker."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from annotate.models import Project, User
from annotate.services import audit
from training.models import Answer, ModelVersion, Question, Run, TrainingSettings
from training.rlhf.config import SamplingConfig
from training.rlhf.exits import InvalidInput
from training.services.registry import configs
from training.services.running import runs
from training.stages import ParentRole, Stage

MOST_MODELS = 4  # whose answers a person can still read side by side
DRAWS = 2  # answers of each model, which draws them by chance: one alone says little

WAITING = (Run.Status.QUEUED, Run.Status.INTERRUPTED)


class CannotAsk(Exception):
    """A model that cannot answer, or a project that does not train; the message says so."""


@dataclass(frozen=True)
class QueueAhead:
    """What the worker does before it comes to a question, as far as the reader may know."""

    is_busy: bool
    running: Run | None  # what it is busy with; None where the reader may not see it
    waiting: int  # other runs in the queue


def models_to_ask(project: Project) -> QuerySet[ModelVersion]:
    """The models of `project` that can be asked."""
    return ModelVersion.objects.policies().with_weights().filter(project=project)


@transaction.atomic
def ask(project: Project, *, text: str, models: list[ModelVersion], asked_by: User) -> Question:
    """Put `text` to each of `models`; their answers come when the worker is free. Raises CannotAsk."""
    prepared = [(model, _config(project, model)) for model in models]
    question = Question.objects.create(project=project, asked_by=asked_by, text=text)
    record = {"id": question.pk, "messages": [{"role": "user", "content": text}]}
    for model, config in prepared:
        # With a seed of its own, a question that is asked again gets other answers.
        seeded = replace(config, k=DRAWS, seed=question.pk)
        run = runs.queue(project, config=seeded, data={}, records={"prompts": [record]})
        Answer.objects.create(question=question, model_version=model, run=run)
    names = [model.name for model in models]
    audit.record("question.asked", actor=asked_by, project=project, subject=f"question {question.pk}", models=names)
    return question


def queue_ahead(question: Question, *, reader: User) -> QueueAhead:
    """What comes before the next answer to `question`. Of other projects' runs it says only how many there are."""
    own = question.answers.values("run")
    first = Run.objects.filter(pk__in=own, status__in=WAITING).order_by("pk").first()
    if first is None:
        return QueueAhead(is_busy=False, running=None, waiting=0)
    others = Run.objects.exclude(pk__in=own)
    running = others.running()
    return QueueAhead(
        is_busy=running.exists(),
        running=Run.objects.for_user(reader).filter(pk__in=running).select_related("round").order_by("pk").first(),
        waiting=others.filter(status__in=WAITING, pk__lt=first.pk).count(),
    )


def _config(project: Project, model: ModelVersion) -> SamplingConfig:
    training = TrainingSettings.objects.filter(project=project).first()
    if training is None:
        raise CannotAsk(_("This project has no base model yet. Choose one in the settings."))
    if not models_to_ask(project).filter(pk=model.pk).exists():
        raise CannotAsk(_("%(model)s cannot answer prompts.") % {"model": model.name})
    try:
        parents: dict[str, ModelVersion] = {ParentRole.POLICY: model}
        return cast(SamplingConfig, configs.make(training, Stage.SAMPLING, round_number=0, parents=parents))
    except InvalidInput as error:  # an override of the project that the engine does not know
        raise CannotAsk(str(error)) from None
