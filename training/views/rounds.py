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
from training.models import IllegalMove, LostRace, Round
from training.services.pages import round_page
from training.services.planning import preflight
from training.services.planning.memory_plan import PlanChanged
from training.services.registry import settings_changes
from training.services.running import rounds


@role_required(Role.ADMIN)
@require_safe
def index(request: ProjectRequest) -> HttpResponse:
    """The next round's plan and the rounds there were."""
    page = round_page.build_overview(request.project, request.user)
    return render(request, "training/rounds/index.html", {"project": request.project, "page": page})


@role_required(Role.ADMIN)
@require_safe
@fragment_of("training:rounds", "slug")
def next_round(request: ProjectRequest) -> HttpResponse:
    """The part of the overview that changes by itself: what runs, what is missing, what the next round would do."""
    page = round_page.build_overview(request.project, request.user)
    return render(request, "training/rounds/_next.html", {"project": request.project, "page": page})


@role_required(Role.ADMIN)
@posts_from("training:rounds", "slug")
def start(request: ProjectRequest) -> HttpResponse:
    """Open the next round. If somebody else has just opened it, go to theirs."""
    try:
        round = rounds.open(request.project, opened_by=request.user)
    except rounds.RoundRunning as running:
        round = running.round
        was_faster = _("Someone else has just started round %(number)d.")
        messages.info(request, was_faster % {"number": round.number})
    except rounds.NotReady as obstacle:
        messages.error(request, str(obstacle))
        return redirect("training:rounds", request.project.slug)
    return redirect("training:round", request.project.slug, round.number)


@role_required(Role.ADMIN)
@posts_from("training:rounds", "slug")
def make_fit(request: ProjectRequest) -> HttpResponse:
    """Take the settings with which the stages of the plan fit into the memory of the workers."""
    try:
        preflight.use_lighter_settings(request.project, shown=request.POST.get("shown", ""), actor=request.user)
        messages.success(request, _("The settings are saved. The memory of each stage is counted again."))
    except (PlanChanged, settings_changes.Changed):
        messages.error(request, _("The plan has changed in the meantime. Check it, then try again."))
    except settings_changes.Refused as refused:
        messages.error(request, _("These settings cannot be used here. %(why)s") % {"why": refused.words})
    return redirect("training:rounds", request.project.slug)


@role_required(Role.ADMIN)
@require_safe
def detail(request: ProjectRequest, number: int) -> HttpResponse:
    """One round: its stages, live while it runs."""
    page = round_page.build(fetch(request, number), request.user)
    return render(request, "training/rounds/detail.html", {"project": request.project, "page": page})


@role_required(Role.ADMIN)
@require_safe
@fragment_of("training:round", "slug", "number")
def live(request: ProjectRequest, number: int) -> HttpResponse:
    """The part of a round's page that changes while it runs."""
    page = round_page.build(fetch(request, number), request.user)
    return render(request, "training/rounds/_live.html", {"project": request.project, "page": page})


@role_required(Role.ADMIN)
@require_http_methods(["GET", "HEAD", "POST"])
def cancel(request: ProjectRequest, number: int) -> HttpResponse:
    """Ask for confirmation, then stop the round. What it has published stays."""
    round = fetch(request, number)
    if request.method != "POST":
        return render(request, "training/rounds/cancel.html", {"project": request.project, "round": round})
    try:
        rounds.cancel(round, actor=request.user)
    except (IllegalMove, LostRace):
        messages.info(request, _("The round has already ended."))
    return redirect("training:round", request.project.slug, number)


def fetch(request: ProjectRequest, number: int) -> Round:
    visible = Round.objects.for_user(request.user).select_related("project", "snapshot", "opened_by")
    return get_object_or_404(visible, project=request.project, number=number)
