"""The models of a project: where each came from, what made it, and which one is served."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from annotate.models import Demonstration, Kind, Project, Ranking, Role, Split
from annotate.permissions import ProjectRequest, role_required
from annotate.services.text import is_id
from annotate.views.paging import Page
from training.forms.promotions import PromotionForm, RollBackForm
from training.models import ModelVersion
from training.services.labels import ranking_shares
from training.services.pages.model_pages import (
    lineage,
    lineage_picture,
    model_answers,
    model_comparison,
    model_curves,
    model_metrics,
)
from training.services.registry import downloads, promotions
from training.services.run_files import config_fields

PAGE_SIZE = 50


@role_required(Role.ADMIN)
@require_safe
def index(request: ProjectRequest) -> HttpResponse:
    """All models, and how they came from each other and from what people judged."""
    project = request.project
    champion, rounds, bases = promotions.champion(project), lineage.rounds(project), lineage.base_models(project)
    rows = _visible(request).select_related("parent", "stands_on", "run__round")
    context = {
        "project": project,
        "champion": champion,
        "period": next(iter(promotions.history(project)), None),
        "predecessor": promotions.predecessor(project),
        "rounds": rounds,
        "most_rounds": lineage.MOST_ROUNDS,
        "base_models": bases,
        "picture": lineage_picture.draw(project, rounds, bases, champion),
        "page": Page(rows, request, size=PAGE_SIZE),
    }
    return render(request, "training/models/index.html", context)


@role_required(Role.ADMIN)
@require_safe
def detail(request: ProjectRequest, pk: int) -> HttpResponse:
    """One model: what it was made from and with, how it measured, what its files are."""
    model = fetch(request, pk)
    champion = promotions.champion(request.project)
    context = {
        "project": request.project,
        "model": model,
        "champion": champion,
        "is_champion": model == champion,
        "teachers": lineage.teachers(model),
        "children": _visible(request).filter(parent=model).order_by("pk"),
        "readings": model_metrics.readings(model),
        "settings": list(config_fields.describe(model.config)),
        "files": model.manifest.get("files", {}),
        "promotions": model.promotions.select_related("promoted_by"),
        "adapters": model.adapters.with_weights().order_by("pk"),
        **download_context(model),
    }
    return render(request, "training/models/detail.html", context)


@role_required(Role.ADMIN)
@require_safe
def labels(request: ProjectRequest, pk: int, kind: str) -> HttpResponse:
    """The labels of one kind that made a model, newest first."""
    model = fetch(request, pk)
    teacher = next((each for each in lineage.teachers(model) if each.kind == kind), None)
    if teacher is None:
        raise Http404
    context = {
        "project": request.project,
        "model": model,
        "teacher": teacher,
        "kind": kind,
        "page": Page(_labels(request, teacher), request, size=PAGE_SIZE),
    }
    return render(request, "training/models/labels.html", context)


@role_required(Role.ADMIN)
@require_safe
def compare(request: ProjectRequest) -> HttpResponse:
    """Up to five models side by side: only what differs."""
    chosen = [int(pk) for pk in request.GET.getlist("model") if is_id(pk)]
    found = _visible(request).select_related(
        "run__round", "reward__snapshot", "snapshot", "parent__parent__snapshot", "stands_on"
    )
    by_pk = found.in_bulk(chosen[: model_comparison.MOST])
    compared = [by_pk[pk] for pk in dict.fromkeys(chosen) if pk in by_pk]
    context = {
        "project": request.project,
        "models": compared,
        "has_adapters": any(model.stands_on_id for model in compared),
        "can_all_answer": all(model.is_policy for model in compared),
        "champion": promotions.champion(request.project),
        "others": _visible(request).order_by("-pk")[:PAGE_SIZE],
        "most": model_comparison.MOST,
        "has_too_many": len(set(chosen)) > model_comparison.MOST,
    }
    if len(compared) > 1:
        # Among several, the ones that answer; of two that were chosen, the page says what is missing.
        answering = compared if len(compared) == 2 else [model for model in compared if model.is_policy]
        context |= {
            "figures": model_comparison.compare_figures(compared),
            "settings": model_comparison.compare_settings(compared),
            "alone": model_comparison.without_counterpart(compared),
            "answers": model_answers.compare(*answering) if len(answering) == 2 else None,
            "pairs": list(combinations(answering, 2)),
            "labels": model_comparison.compare_labels(compared),
            "charts": model_curves.charts(compared),
        }
    return render(request, "training/models/compare.html", context)


@role_required(Role.ADMIN)
@require_safe
def history(request: ProjectRequest) -> HttpResponse:
    """Who was champion when, and why."""
    context = {
        "project": request.project,
        "periods": promotions.history(request.project),
        "predecessor": promotions.predecessor(request.project),
    }
    return render(request, "training/models/history.html", context)


@role_required(Role.ADMIN)
@require_http_methods(["GET", "HEAD", "POST"])
def promote(request: ProjectRequest, pk: int) -> HttpResponse:
    """Explain what promoting means, ask for the reason, and promote."""
    model, champion = fetch(request, pk), promotions.champion(request.project)
    if model == champion:
        messages.info(request, str(promotions.AlreadyChampion(model)))
        return redirect("training:models", request.project.slug)
    form = PromotionForm(request.POST or None)
    if form.is_valid():
        try:
            promotions.promote(model, promoted_by=request.user, reason=form.cleaned_data["reason"])
        except promotions.AlreadyChampion as told:
            messages.info(request, str(told))
        except promotions.NotAPolicy as refusal:
            messages.error(request, str(refusal))
        else:
            messages.success(request, _("%(model)s is now the champion.") % {"model": model.name})
        return redirect("training:models", request.project.slug)
    context = {"model": model, "champion": champion, "form": form}
    return _ask(request, "promote", context)


@role_required(Role.ADMIN)
@require_http_methods(["GET", "HEAD", "POST"])
def roll_back(request: ProjectRequest) -> HttpResponse:
    """Explain what going back means, ask for the reason, and go back."""
    project = request.project
    champion, before = promotions.champion(project), promotions.predecessor(project)
    form = RollBackForm(request.POST or None, initial={"seen": champion.pk if champion else None})
    if form.is_valid():
        seen = get_object_or_404(_visible(request), pk=form.cleaned_data["seen"])
        try:
            promotions.roll_back(project, seen=seen, promoted_by=request.user, reason=form.cleaned_data["reason"])
        except (promotions.NotAPolicy, promotions.ChampionChanged) as refusal:
            messages.error(request, str(refusal))
        else:
            messages.success(request, _("Rolled back to %(model)s.") % {"model": before.name if before else ""})
        return redirect("training:models", project.slug)
    return _ask(request, "roll_back", {"champion": champion, "predecessor": before, "form": form})


def download_context(model: ModelVersion) -> dict[str, Any]:
    """What the fragment with the downloads of a model shows."""
    offers = downloads.offers(model)
    return {"offers": offers, "is_packing": any(one.download and one.download.is_under_way for one in offers)}


def fetch(request: ProjectRequest, pk: int) -> ModelVersion:
    """The model with this id, if it is one of the project and this person may see it."""
    everything = _visible(request).select_related(
        "parent", "reward__snapshot", "reference", "watcher", "stands_on", "run__round", "snapshot", "parent__parent"
    )
    return get_object_or_404(everything, pk=pk)


def _visible(request: ProjectRequest) -> QuerySet[ModelVersion]:
    return ModelVersion.objects.for_user(request.user).filter(project=request.project)


def _labels(request: ProjectRequest, teacher: lineage.Teacher) -> QuerySet[Any]:
    project: Project = request.project
    if teacher.kind == Kind.DEMONSTRATION:
        wrote = Demonstration.objects.for_user(request.user).filter(project=project, snapshots=teacher.snapshot)
        return wrote.select_related("annotator__user", "prompt")
    ranked = Ranking.objects.for_user(request.user).filter(project=project, snapshots=teacher.snapshot)
    # What is held out measures the model and has taught it nothing, nor has what another model learned from.
    is_own = ranking_shares.is_of(teacher.model, teacher.snapshot)
    own = ranked.filter(is_own, slate__prompt__split=Split.TRAIN)
    return own.select_related("annotator__user", "slate__prompt")


def _ask(request: ProjectRequest, page: str, context: dict[str, Any]) -> HttpResponse:
    context |= {"project": request.project}
    status = 422 if request.method == "POST" else 200
    return render(request, f"training/models/{page}.html", context, status=status)
