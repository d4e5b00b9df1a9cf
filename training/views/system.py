"""The system page: the state of the installation, for site admins."""

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
    """The doctor's findings, and figures of the installation. To everybody but site admins the page does not exist."""
    if not request.user.is_superuser:
        raise Http404
    context = {
        "findings": doctor.examine(),
        "workers": system.working(),
        "waiting": system.waiting(),
        "disk": system.disk(),
        "versions": system.versions(),
    }
    return render(request, "training/system/show.html", context)
