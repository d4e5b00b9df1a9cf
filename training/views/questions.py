"""Asking models a question of one's own, and reading their answers side by side."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from annotate.addresses import fragment_of
from annotate.models import Role
from annotate.permissions import ProjectRequest, role_required
from annotate.views.paging import Page
from training.forms.questions import QuestionForm
from training.models import Answer, Question, Run, Worker
from training.services.pages import schedule
from training.services.pages.schedule import Job
from training.services.registry import promotions
from training.services.running import questions

PAGE_SIZE = 20


@role_required(Role.ADMIN)
@require_http_methods(["GET", "HEAD", "POST"])
def index(request: ProjectRequest) -> HttpResponse:
    """The form, and what was asked before."""
    project = request.project
    form = QuestionForm(request.POST or None, project=project, initial={"models": _suggested(request)})
    if form.is_valid():
        try:
            question = questions.ask(project, **form.cleaned_data, asked_by=request.user)
        except questions.CannotAsk as refusal:
            messages.error(request, str(refusal))
        else:
            return redirect("training:question", project.slug, question.pk)
    asked = Question.objects.for_user(request.user).filter(project=project)
    page = Page(asked.select_related("asked_by"), request, size=PAGE_SIZE)
    context = {"project": project, "form": form, "page": page, "is_able": questions.models_to_ask(project).exists()}
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


def _question(request: ProjectRequest, pk: int) -> dict[str, Any]:
    asked = Question.objects.for_user(request.user).filter(project=request.project)
    question = get_object_or_404(asked.select_related("asked_by"), pk=pk)
    answers = list(question.answers.select_related("model_version", "run").order_by("pk"))
    return {
        "project": request.project,
        "question": question,
        "answers": answers,
        "is_waiting": any(answer.run.status not in Run.FINISHED for answer in answers),
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
    came_from = [int(pk) for pk in request.GET.getlist("model") if pk.isascii() and pk.isdigit() and len(pk) < 19]
    return [*came_from, *([champion.pk] if champion else [])]
