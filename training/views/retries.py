"""What an admin does about a run that failed or is held: each a POST, each answered with one sentence."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from annotate.addresses import posts_from
from annotate.models import Role
from annotate.permissions import ProjectRequest, role_required
from training.forms.configs import ConfigForm
from training.models import IllegalMove, LostRace, Run
from training.services.running import retries
from training.views.runs import fetch


@role_required(Role.ADMIN)
@posts_from("training:run", "slug", "pk")
def resume(request: ProjectRequest, pk: int) -> HttpResponse:
    """Go on from the newest whole checkpoint, as a new run."""
    return _start(request, pk, lambda run: retries.resume(run, actor=request.user))


@role_required(Role.ADMIN)
@posts_from("training:run", "slug", "pk")
def repeat(request: ProjectRequest, pk: int) -> HttpResponse:
    """Do the same again from the start, as a new run."""
    return _start(request, pk, lambda run: retries.repeat(run, actor=request.user))


@role_required(Role.ADMIN)
@require_http_methods(["GET", "HEAD", "POST"])
def change(request: ProjectRequest, pk: int) -> HttpResponse:
    """Copy the run's config, edit it, and do that instead."""
    files = fetch(request, pk)
    run, saved = files.run, files.config
    if not saved or (reason := retries.refusal(run)):
        messages.error(request, reason if saved else _("The run's directory no longer exists."))
        return redirect("training:run", request.project.slug, pk)
    form = ConfigForm(request.POST or None, saved=saved)
    if request.method == "POST" and form.is_valid():
        return _start(request, pk, lambda run: retries.repeat_changed(run, form.config, actor=request.user))
    context = {"project": request.project, "run": run, "form": form}
    return render(request, "training/runs/change.html", context, status=422 if form.is_bound else 200)


@role_required(Role.ADMIN)
@posts_from("training:run", "slug", "pk")
def release(request: ProjectRequest, pk: int) -> HttpResponse:
    """Let a held run go on."""
    return _settle(request, pk, lambda run: retries.release(run, actor=request.user))


@role_required(Role.ADMIN)
@posts_from("training:run", "slug", "pk")
def close(request: ProjectRequest, pk: int) -> HttpResponse:
    """Give up a held run."""
    return _settle(request, pk, lambda run: retries.close(run, actor=request.user))


def _start(request: ProjectRequest, pk: int, retry: Callable[[Run], Run]) -> HttpResponse:
    """Start a retry and go to it, or to the one that somebody else has just started."""
    try:
        new = retry(fetch(request, pk).run)
        pk = new.pk
        sentence = (
            _("Run %(pk)d resumes from step %(step)d.") if new.step else _("Run %(pk)d starts from the beginning.")
        )
        messages.success(request, sentence % {"pk": pk, "step": new.step})
    except retries.AlreadyRetried as known:
        pk = known.retry.pk
        messages.info(request, _("Someone else has already started run %(pk)d.") % {"pk": pk})
    except (retries.Refused, IllegalMove, LostRace) as refusal:
        messages.error(request, str(refusal))
    return redirect("training:run", request.project.slug, pk)


def _settle(request: ProjectRequest, pk: int, end_hold: Callable[[Run], None]) -> HttpResponse:
    try:
        end_hold(fetch(request, pk).run)
    except (IllegalMove, LostRace):
        messages.info(request, _("Someone else has already acted: the run is no longer on hold."))
    return redirect("training:run", request.project.slug, pk)
