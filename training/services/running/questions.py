"""Questions that an admin puts to chosen models: each is answered by a sampling run on a gpu-worker.

People rank the answers where the admin wants it: the question is a prompt from then on, on the side of the split on
which a prompt with its text stands.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from annotate.models import Project, Slate, User
from annotate.services import audit, prompts, slates
from annotate.services.slates import NewCompletion
from annotate.services.text import split_thought
from training.models import Answer, ModelVersion, Question, Round, Run, TrainingSettings
from training.rlhf.config import SamplingConfig
from training.rlhf.exits import InvalidInput
from training.services.registry import configs
from training.services.running import runs
from training.stages import ParentRole, Stage

MOST_MODELS = 4  # whose answers a person can still read side by side
DRAWS = 2  # answers of each model, which draws them by chance: one alone says little


class CannotAsk(Exception):
    """A model that cannot answer, or a project that does not train; the message says so."""


class CannotRank(Exception):
    """Answers that nobody can be asked to rank; the message says why."""


class AlreadyRanked(CannotRank):
    """People have been asked about these answers."""


def models_to_ask(project: Project) -> QuerySet[ModelVersion]:
    """The models of `project` that can be asked."""
    return ModelVersion.objects.policies().with_weights().filter(project=project)


@transaction.atomic
def ask(
    project: Project,
    *,
    text: str,
    models: list[ModelVersion],
    asked_by: User,
    context: list[dict[str, str]] | None = None,
) -> Question:
    """Put `text` to each of `models`, after the turns of `context`; they answer when the worker is free.

    Raises CannotAsk.
    """
    prepared = [(model, _config(project, model)) for model in models]
    question = Question.objects.create(project=project, asked_by=asked_by, text=text, context=context or [])
    record = {"id": question.pk, "messages": question.messages}
    for model, config in prepared:
        # With a seed of its own, a question that is asked again gets other answers.
        seeded = replace(config, k=DRAWS, seed=question.pk)
        run = runs.queue(project, config=seeded, data={}, records={"prompts": [record]})
        Answer.objects.create(question=question, model_version=model, run=run)
    names = [model.name for model in models]
    audit.record("question.asked", actor=asked_by, project=project, subject=f"question {question.pk}", models=names)
    return question


def conversation_after(answer: Answer, draw: int) -> list[dict[str, str]]:
    """The conversation up to the `draw`-th text of `answer`, without what the model thought first: it goes on there."""
    said = split_thought(answer.texts[draw]["text"]).answer
    return [*answer.question.messages, {"role": "assistant", "content": said}]


def different_answers(question: Question) -> list[NewCompletion]:
    """What the models answered, each text once, in the order of the models."""
    draws = [draw for answer in question.answers.order_by("pk") for draw in answer.texts]
    different = {draw["text"]: NewCompletion(draw["text"], draw["finish_reason"]) for draw in reversed(draws)}
    return list(reversed(different.values()))


def why_not_ranked(question: Question) -> str:
    """Why people cannot be asked to rank the answers; empty where they can."""
    if question.answers.exclude(run__status__in=Run.FINISHED).exists():
        return _("Not every model has answered yet.")
    number = len(different_answers(question))
    if number < Slate.SMALLEST:
        return _("Ranking needs at least two different answers.")
    if number > Slate.LARGEST:
        return _("At most %(most)d answers can be ranked together.") % {"most": Slate.LARGEST}
    return ""


@transaction.atomic
def let_people_rank(question: Question, *, sent_by: User) -> Slate:
    """Ask people to rank the answers to `question`, without saying who wrote which.

    Raises AlreadyRanked or CannotRank, and BadRecord, BadSlate or BadText where the question cannot be a prompt.
    """
    if question.slate_id:
        raise AlreadyRanked(_("People have been asked to rank these answers already."))
    if reason := why_not_ranked(question):
        raise CannotRank(reason)
    project = question.project
    prompt, _report = prompts.add_one(project, {"messages": question.messages})
    newest = Round.objects.filter(project=project).order_by("number").last()
    priority = -newest.number if newest else 0  # beside the newest round's answers
    slate = slates.add(project, prompt=prompt, completions=different_answers(question), priority=priority).slate
    if not Question.objects.filter(pk=question.pk, slate=None).update(slate=slate, sent_by=sent_by):
        raise AlreadyRanked(_("People have been asked to rank these answers already."))  # by someone just now
    question.refresh_from_db()
    answered = question.answers.exclude(texts=[]).order_by("pk")
    names = list(answered.values_list("model_version__kind", "model_version__number"))
    audit.record(
        "question.sent",
        actor=sent_by,
        project=project,
        subject=str(question),
        slate=slate.pk,
        prompt=prompt.pk,
        models=[f"{kind}-{number}" for kind, number in names],
    )
    return slate


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
