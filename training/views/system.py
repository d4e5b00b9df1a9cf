"""The system page: the state of the installation and the queue of all projects, for site admins."""

from __future__ import annotations

from functools import wraps

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from annotate.addresses import fragment_of
from annotate.permissions import SignedInRequest, View
from training.services.office import doctor, system
from training.services.pages import schedule


def hidden_from_others(view: View) -> View:
    """To everybody but site admins the page does not exist."""

    @wraps(view)
    @login_required
    def guarded(request: SignedInRequest) -> HttpResponse:
        if not request.user.is_superuser:
            raise Http404
        return view(request)

    return guarded


@hidden_from_others
@require_safe
def show(request: SignedInRequest) -> HttpResponse:
    """The doctor's findings, the queue, and figures of the installation."""
    context = {
        "findings": doctor.examine(),
        "workers": system.working(),
        "waiting": system.waiting(),
        "disk": system.disk(),
        "versions": system.versions(),
        "schedule": schedule.forecast(request.user),
    }
    return render(request, "training/system/show.html", context)


@hidden_from_others
@require_safe
@fragment_of("training:system")
def queue(request: SignedInRequest) -> HttpResponse:
    """The part of the page that changes by itself: the runs of all projects in their order."""
    return render(request, "training/system/_queue.html", {"schedule": schedule.forecast(request.user)})
