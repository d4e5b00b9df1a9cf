"""Asking models a question of one's own, and reading their answers side by side."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from annotate.addresses import fragment_of, posts_from
from annotate.models import Prompt, Role, Split
from annotate.permissions import ProjectRequest, role_required
from annotate.services.importing.conversations import BadRecord
from annotate.services.slates import BadSlate
from annotate.services.text import BadText, is_id
from annotate.views.paging import Page
from training.forms.questions import QuestionForm, conversation_of
from training.models import Answer, Question, Run, Worker
from training.services.labels.slates import TEMPERATURE
from training.services.pages import question_progress, schedule
from training.services.pages.schedule import Job
from training.services.registry import promotions
from training.services.running import questions

PAGE_SIZE = 20


@role_required(Role.ADMIN)
@require_http_methods(["GET", "HEAD", "POST"])
def index(request: ProjectRequest) -> HttpResponse:
    """The form, and what was asked before."""
    project = request.project
    follows = request.POST.get("follows") or request.GET.get("follows", "")
    initial = {"models": _suggested(request), "follows": follows}
    form = QuestionForm(request.POST or None, project=project, initial=initial)
    if form.is_valid():
        asked_for = {"text": form.cleaned_data["text"], "models": form.cleaned_data["models"]}
        try:
            question = questions.ask(project, **asked_for, context=form.cleaned_data["follows"], asked_by=request.user)
        except questions.CannotAsk as refusal:
            messages.error(request, str(refusal))
        else:
            return redirect("training:question", project.slug, question.pk)
    asked = Question.objects.for_user(request.user).filter(project=project)
    page = Page(asked.select_related("asked_by"), request, size=PAGE_SIZE)
    context = {
        "project": project,
        "form": form,
        "page": page,
        "is_able": questions.models_to_ask(project).exists(),
        "conversation": conversation_of(project, follows) or [],
        "draws": questions.DRAWS,
        "temperature": TEMPERATURE,
    }
    status = 422 if request.method == "POST" else 200
    return render(request, "training/questions/index.html", context, status=status)


@role_required(Role.ADMIN)
@require_safe
def detail(request: ProjectRequest, pk: int) -> HttpResponse:
    """One question with its answers side by side."""
    return render(request, "training/questions/detail.html", _question(request, pk))


@role_required(Role.ADMIN)
@require_safe
@fragment_of("training:question", "slug", "pk")
def live(request: ProjectRequest, pk: int) -> HttpResponse:
    """The part of a question's page that changes until every model has answered."""
    return render(request, "training/questions/_answers.html", _question(request, pk))


@role_required(Role.ADMIN)
@posts_from("training:question", "slug", "pk")
def rank(request: ProjectRequest, pk: int) -> HttpResponse:
    """Let people rank the answers."""
    question = _fetch(request, pk)
    try:
        slate = questions.let_people_rank(question, sent_by=request.user)
        messages.success(request, _told(slate.prompt))
    except questions.AlreadyRanked as told:
        messages.info(request, str(told))
    except (questions.CannotRank, BadRecord, BadSlate, BadText) as refusal:
        messages.error(request, str(refusal))
    return redirect("training:question", request.project.slug, pk)


def _told(prompt: Prompt) -> str:
    number = {"number": prompt.pk}
    if prompt.split == Split.HELDOUT:
        return (
            _(
                "People are now asked to rank these answers. The question is prompt #%(number)d. It is held out: its "
                "rankings are used for evaluation only."
            )
            % number
        )
    return _("People are now asked to rank these answers. The question is prompt #%(number)d.") % number


def _fetch(request: ProjectRequest, pk: int) -> Question:
    asked = Question.objects.for_user(request.user).filter(project=request.project)
    return get_object_or_404(asked.select_related("project", "asked_by", "slate__prompt", "sent_by"), pk=pk)


def _question(request: ProjectRequest, pk: int) -> dict[str, Any]:
    question = _fetch(request, pk)
    answers = list(question.answers.select_related("model_version", "run").order_by("pk"))
    over = [answer.run.status in Run.FINISHED for answer in answers]
    return {
        "project": request.project,
        "question": question,
        "answers": question_progress.describe(answers),
        "number_over": sum(over),
        "draws": questions.DRAWS,
        "temperature": TEMPERATURE,
        "longest": question_progress.longest_answer(answers),
        "is_waiting": not all(over),
        "different": len(questions.different_answers(question)),
        "why_not_ranked": questions.why_not_ranked(question),
        "next_job": _next_job(request, answers),
        "gpu_workers": Worker.objects.alive("gpu"),
    }


def _next_job(request: ProjectRequest, answers: list[Answer]) -> Job | None:
    """The answer that comes next; None while one is being written, and once all are there."""
    if any(answer.run.status == Run.Status.RUNNING for answer in answers):
        return None
    own = {answer.run_id for answer in answers}
    jobs = schedule.forecast(request.user, request.project).jobs
    return next((job for job in jobs if job.is_waiting and job.run and job.run.pk in own), None)


def _suggested(request: ProjectRequest) -> list[int]:
    """The model that the person comes from, and the champion to compare it with."""
    champion = promotions.champion(request.project)
    came_from = [int(pk) for pk in request.GET.getlist("model") if is_id(pk)]
    return [*came_from, *([champion.pk] if champion else [])]
