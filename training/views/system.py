"""The system page: how the installation fares, for who looks after it."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from annotate.permissions import SignedInRequest
from training.services.office import doctor, system


@login_required
@require_safe
def show(request: SignedInRequest) -> HttpResponse:
    """What the doctor finds, and the figures beside it. For site admins; nobody else learns that it is there."""
    if not request.user.is_superuser:
        raise Http404
    rooms, free, total = system.disk()
    context = {
        "findings": doctor.examine(),
        "workers": system.working(),
        "waiting": system.waiting(),
        "rooms": rooms,
        "free": free,
        "total": total,
        "versions": system.versions(),
    }
    return render(request, "training/system/show.html", context)
