"""Moving a run in the queue, and cancelling one: from the queue, from the run's own page, from the system page."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from annotate.addresses import posts_from
from annotate.models import Role
from annotate.permissions import ProjectRequest, role_required
from training.models import Run
from training.services.running import steering


@role_required(Role.ADMIN)
@posts_from("training:run", "slug", "pk")
def put_first(request: ProjectRequest, pk: int) -> HttpResponse:
    """Let workers take the run next."""
    run = _fetch(request, pk)
    done = _("Run %(pk)d is now first in the queue.")
    if run.yields_to_others:
        done = _("Run %(pk)d is now first among the pretraining runs. Rounds and questions still run before it.")
    return _steer(request, run, steering.put_first, done)


@role_required(Role.ADMIN)
@posts_from("training:run", "slug", "pk")
def put_last(request: ProjectRequest, pk: int) -> HttpResponse:
    """Let everything that waits now be taken before the run."""
    return _steer(request, _fetch(request, pk), steering.put_last, _("Run %(pk)d is now last in the queue."))


@role_required(Role.ADMIN)
@require_http_methods(["GET", "HEAD", "POST"])
def cancel(request: ProjectRequest, pk: int) -> HttpResponse:
    """Ask for confirmation, then end the run; a round's run is cancelled with its round."""
    run = _fetch(request, pk)
    if run.round:
        return redirect("training:round-cancel", request.project.slug, run.round.number)
    if request.method != "POST":
        context = {"project": request.project, "run": run, "back": request.GET.get("back", "")}
        return render(request, "training/runs/cancel.html", context)
    return _steer(
        request, run, steering.cancel, _("Run %(pk)d is cancelled. If it is running, it stops within about a minute.")
    )


def _fetch(request: ProjectRequest, pk: int) -> Run:
    visible = Run.objects.for_user(request.user).select_related("project", "round")
    return get_object_or_404(visible, project=request.project, pk=pk)


def _steer(request: ProjectRequest, run: Run, action: Callable[..., None], done: str) -> HttpResponse:
    """Do it, say what came of it, and go back to the page where it was asked for."""
    try:
        action(run, actor=request.user)
        messages.success(request, done % {"pk": run.pk})
    except steering.TooLate as late:
        messages.info(request, _too_late(late.run))
    except steering.OthersWait:
        refusal = _("Runs of other projects are ahead of run %(pk)d. Only a site admin can move it ahead of them.")
        messages.error(request, refusal % {"pk": run.pk})
    back = request.POST.get("back")
    if back == "system" and request.user.is_superuser:
        return redirect("training:system")
    if back == "rounds":
        return redirect("training:rounds", request.project.slug)
    return redirect("training:run", request.project.slug, run.pk)


def _too_late(run: Run) -> str:
    """Why a run can no longer be moved or cancelled, by its state."""
    if run.status == Run.Status.RUNNING and run.cancel_requested:
        return _("Run %(pk)d is already being cancelled.") % {"pk": run.pk}
    if run.status == Run.Status.RUNNING:
        return _("A worker has just started run %(pk)d.") % {"pk": run.pk}
    return _("Run %(pk)d is no longer waiting: its status is “%(state)s”.") % {
        "pk": run.pk,
        "state": run.get_status_display(),
    }
