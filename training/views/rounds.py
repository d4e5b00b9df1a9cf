"""The rounds of a project: the plan before anything runs, the round while it runs, its result."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from annotate.permissions import ProjectRequest, role_required
from training.models import IllegalMove, LostRace, Round, Run, Stage, TrainingSettings
from training.services import (
    base_models,
    cadence,
    plans,
    preflight,
    progress,
    promotions,
    results,
    rounds,
    runs,
    schedule,
    strips,
    supply,
    workers,
)
from training.services.plans import Plan, StagePlan
from training.services.progress import StageProgress


@role_required("admin")
@require_GET
def index(request: ProjectRequest) -> HttpResponse:
    """The next round's plan and the rounds there were."""
    return render(request, "training/rounds/index.html", _overview(request))


@role_required("admin")
@require_GET
def next_round(request: ProjectRequest) -> HttpResponse:
    """The part of the overview that changes by itself: what runs, what is missing, what the next round would do."""
    return render(request, "training/rounds/_next.html", _overview(request))


@role_required("admin")
@require_POST
def start(request: ProjectRequest) -> HttpResponse:
    """Open the next round. Who comes second is taken to the round that the first one opened."""
    try:
        turn = rounds.open(request.project, opened_by=request.user)
    except rounds.RoundRunning as running:
        turn = running.round
        messages.info(request, _("Round %(number)d is running already: somebody was faster.") % {"number": turn.number})
    except rounds.NotReady as obstacle:
        messages.error(request, str(obstacle))
        return redirect("training:rounds", request.project.slug)
    return redirect("training:round", request.project.slug, turn.number)


@role_required("admin")
@require_POST
def make_base(request: ProjectRequest) -> HttpResponse:
    """Try again to make the base model, after a person has mended what kept it from being made."""
    held = (
        Run.objects.for_user(request.user)
        .filter(project=request.project, stage=Stage.PRETRAINING, status=Run.Status.HELD)
        .first()
    )
    if held:
        runs.release(held)
    else:
        try:
            base_models.register(request.project)
        except base_models.UnknownFolder as refusal:
            messages.error(request, str(refusal))
    return redirect("training:rounds", request.project.slug)


@role_required("admin")
@require_GET
def detail(request: ProjectRequest, number: int) -> HttpResponse:
    """One round: its stages, live while it runs."""
    return render(request, "training/rounds/detail.html", _round(request, number))


@role_required("admin")
@require_GET
def live(request: ProjectRequest, number: int) -> HttpResponse:
    """The part of a round's page that changes while it runs."""
    return render(request, "training/rounds/_live.html", _round(request, number))


@role_required("admin")
@require_POST
def cancel(request: ProjectRequest, number: int) -> HttpResponse:
    """Stop a round. What it has published stays."""
    turn = get_object_or_404(Round.objects.for_user(request.user), project=request.project, number=number)
    try:
        rounds.cancel(turn, actor=request.user)
    except (IllegalMove, LostRace):
        messages.info(request, _("The round was over already."))
    return redirect("training:round", request.project.slug, number)


def _overview(request: ProjectRequest) -> dict[str, object]:
    project = request.project
    every = Round.objects.for_user(request.user).filter(project=project).order_by("-number")
    active = every.active().first()
    trains = TrainingSettings.objects.filter(project=project).exists()
    plan = plans.make(project) if active is None and trains else None
    return {
        "project": project,
        "readiness": supply.readiness(project),
        # Made outside the pages, a project may lack settings: it does not train until an admin saves some.
        "plan": plan,
        "strip": strips.planned(project, plan) if plan else None,
        "preflight": preflight.check(project, plan) if plan else None,
        "active": active,
        "background": _background(request),
        "rounds": every.select_related("opened_by"),
        "champion": promotions.champion(project),
        "gpu_workers": workers.alive("gpu"),
        "schedule": schedule.of(request.user),
    }


def _round(request: ProjectRequest, number: int) -> dict[str, object]:
    visible = Round.objects.for_user(request.user).select_related("snapshot", "opened_by")
    turn = get_object_or_404(visible, project=request.project, number=number)
    plan = Plan.from_json(turn.plan)
    compared = plan.stage(Stage.EVALUATION).parents
    return {
        "project": request.project,
        "round": turn,
        "plan": plan,
        "result": results.of(turn),
        "cadence": cadence.of(turn),
        "parent": compared["reference"].name,
        "policy": compared["policy"].name,
        "strip": strips.of(turn),
        "stages": progress.of_round(turn),
        "gpu_workers": workers.alive("gpu"),
        "readiness": supply.readiness(request.project),
    }


def _background(request: ProjectRequest) -> StageProgress | None:
    """The newest run that belongs to no round, as the pretraining of the tiny base model, unless it is through."""
    unbound = Run.objects.for_user(request.user).filter(project=request.project, stage=Stage.PRETRAINING)
    run = unbound.exclude(status=Run.Status.SUCCEEDED).order_by("-pk").first()
    return progress.of_stage(StagePlan(stage=run.stage), run) if run else None
