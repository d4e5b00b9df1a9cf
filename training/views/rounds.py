"""The rounds of a project: the plan before anything runs, the round while it runs, its result."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from annotate.addresses import fragment_of, posts_from
from annotate.models import Role
from annotate.permissions import ProjectRequest, role_required
from training.models import IllegalMove, LostRace, ModelVersion, Round, Run, Stage, TrainingSettings
from training.services.labels import trainable_labels
from training.services.pages import cadence, progress, round_strip, schedule, timelines
from training.services.pages.progress import StageProgress
from training.services.pages.schedule import Schedule
from training.services.planning import plans, preflight
from training.services.planning.plans import StagePlan
from training.services.planning.preflight import Facts
from training.services.registry import base_models, promotions
from training.services.run_files import attempts
from training.services.running import results, retries, rounds


@role_required(Role.ADMIN)
@require_safe
def index(request: ProjectRequest) -> HttpResponse:
    """The next round's plan and the rounds there were."""
    return render(request, "training/rounds/index.html", _overview(request))


@role_required(Role.ADMIN)
@require_safe
@fragment_of("training:rounds", "slug")
def next_round(request: ProjectRequest) -> HttpResponse:
    """The part of the overview that changes by itself: what runs, what is missing, what the next round would do."""
    return render(request, "training/rounds/_next.html", _overview(request))


@role_required(Role.ADMIN)
@posts_from("training:rounds", "slug")
def start(request: ProjectRequest) -> HttpResponse:
    """Open the next round. Who comes second is taken to the round that the first one opened."""
    try:
        round = rounds.open(request.project, opened_by=request.user)
    except rounds.RoundRunning as running:
        round = running.round
        was_faster = _("Round %(number)d is running already: somebody was faster.")
        messages.info(request, was_faster % {"number": round.number})
    except rounds.NotReady as obstacle:
        messages.error(request, str(obstacle))
        return redirect("training:rounds", request.project.slug)
    return redirect("training:round", request.project.slug, round.number)


@role_required(Role.ADMIN)
@posts_from("training:rounds", "slug")
def make_base(request: ProjectRequest) -> HttpResponse:
    """Try again to make the base model, after a person has mended what kept it from being made."""
    held = (
        Run.objects.for_user(request.user)
        .filter(project=request.project, stage=Stage.PRETRAINING, status=Run.Status.HELD)
        .first()
    )
    if held:
        try:
            retries.release(held, actor=request.user)
        except (IllegalMove, LostRace):
            messages.info(request, _("It goes on already."))
    else:
        try:
            base_models.register(request.project, asked_by=request.user)
        except (base_models.UnknownFolder, base_models.NotAdopted) as refusal:
            messages.error(request, str(refusal))
    return redirect("training:rounds", request.project.slug)


@role_required(Role.ADMIN)
@require_safe
def detail(request: ProjectRequest, number: int) -> HttpResponse:
    """One round: its stages, live while it runs."""
    return render(request, "training/rounds/detail.html", _round(request, number))


@role_required(Role.ADMIN)
@require_safe
@fragment_of("training:round", "slug", "number")
def live(request: ProjectRequest, number: int) -> HttpResponse:
    """The part of a round's page that changes while it runs."""
    return render(request, "training/rounds/_live.html", _round(request, number))


@role_required(Role.ADMIN)
@require_http_methods(["GET", "HEAD", "POST"])
def cancel(request: ProjectRequest, number: int) -> HttpResponse:
    """Ask whether a round is to be stopped, and stop it. What it has published stays."""
    round = get_object_or_404(Round.objects.for_user(request.user), project=request.project, number=number)
    if request.method != "POST":
        return render(request, "training/rounds/cancel.html", {"project": request.project, "round": round})
    try:
        rounds.cancel(round, actor=request.user)
    except (IllegalMove, LostRace):
        messages.info(request, _("The round was over already."))
    return redirect("training:round", request.project.slug, number)


def _overview(request: ProjectRequest) -> dict[str, object]:
    project = request.project
    every = Round.objects.for_user(request.user).filter(project=project).order_by("-number")
    newest = every.first()  # an older one never goes on: see retries.refusal
    active = newest if newest and newest.is_active else None
    # Made outside the pages, a project may lack settings: it does not train until an admin saves some.
    training = TrainingSettings.objects.filter(project=project).first()
    queue = schedule.forecast(request.user, beside=project)
    context: dict[str, object] = {
        "project": project,
        "active": active,
        "stuck": newest if newest and newest.status == Round.Status.FAILED else None,
        "background": _background(request),
        "rounds": every.select_related("opened_by", "result"),
        "gpu_workers": queue.alive,
        "schedule": queue,
    }
    return context | _next(request, training, queue) if training and not active else context


def _next(request: ProjectRequest, training: TrainingSettings, queue: Schedule) -> dict[str, object]:
    """What a round opened now would do, and what speaks against it."""
    project, readiness = request.project, trainable_labels.readiness(request.project)
    plan = plans.draft_from(project, training, readiness)
    base = ModelVersion.objects.filter(project=project, kind=ModelVersion.Kind.BASE).first()
    facts = Facts(training=training, base=base, history=queue.history, alive=queue.alive)
    missing = readiness.missing if readiness else 0
    return {
        "plan": plan,
        "readiness": readiness,
        "strip": round_strip.build_planned(project, plan, queue.history, missing=missing),
        "preflight": preflight.check(project, plan, facts),
    }


def _round(request: ProjectRequest, number: int) -> dict[str, object]:
    visible = Round.objects.for_user(request.user).select_related("project", "snapshot", "opened_by")
    round = get_object_or_404(visible, project=request.project, number=number)
    plan, its_runs = plans.load(round), progress.runs_of(round)
    spent = timelines.measure(its_runs)
    queue = schedule.forecast(request.user, beside=request.project)
    compared = plan.stage(Stage.EVALUATION).parents
    result = results.load(round)
    return {
        "project": request.project,
        "round": round,
        "is_moving": round.is_active or any(run.status not in Run.FINISHED for run in its_runs),
        "result": result,
        "verdict": results.summary(result) if result else [],
        "made": progress.policy_of(its_runs),
        "champion": promotions.champion(request.project) if result else None,
        "cadence": cadence.measure(round, its_runs, spent),
        "parent": compared.get("parent", compared["reference"]).name,
        "policy": compared["policy"].name,
        "strip": round_strip.build(round, its_runs, spent, queue),
        "stages": progress.pair_stages(plan.stages, its_runs, is_over=not round.is_active, lost=queue.lost),
        "gpu_workers": queue.alive,
        "readiness": trainable_labels.readiness(request.project) if round.status == Round.Status.SUCCEEDED else None,
    }


def _background(request: ProjectRequest) -> StageProgress | None:
    """The newest run that belongs to no round, as the pretraining of the tiny base model, unless it is through."""
    unbound = Run.objects.for_user(request.user).filter(project=request.project, stage=Stage.PRETRAINING)
    run = unbound.exclude(status=Run.Status.SUCCEEDED).select_related("model_version").order_by("-pk").first()
    return progress.describe(StagePlan(stage=run.stage), run, lost=attempts.lost()) if run else None
