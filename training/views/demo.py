"""What only demo and example projects have: simulated people who help, and the removal of the example."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from annotate.addresses import fragment_of, posts_from
from annotate.models import Role
from annotate.permissions import ProjectRequest, role_required
from training.forms.simulations import SimulationForm
from training.services.demo import example, simulations


@role_required(Role.ADMIN)
@require_http_methods(["GET", "HEAD", "POST"])
@fragment_of("annotate:project", "slug")
def simulation(request: ProjectRequest) -> HttpResponse:
    """How far simulated people are; POST lets them begin."""
    if request.method == "POST":
        form = SimulationForm(request.POST)
        if not form.is_valid():
            messages.error(request, _("Choose answers or rankings, and a number of at least 1."))
        else:
            try:
                simulations.start(request.project, **form.cleaned_data, started_by=request.user)
            except simulations.Refused as refusal:
                messages.error(request, str(refusal))
        return redirect("annotate:project", request.project.slug)
    newest = simulations.newest(request.project)
    context = {"project": request.project, "simulation": newest}
    answer = render(request, "training/demo/_simulation.html", context)
    if newest is None or not newest.is_live:
        answer["HX-Refresh"] = "true"  # the guide's next step
    return answer


@role_required(Role.ADMIN)
@posts_from("annotate:project", "slug")
def stop_simulation(request: ProjectRequest) -> HttpResponse:
    """Let simulated people end; what they have handed in stays."""
    simulations.stop(request.project, actor=request.user)
    return redirect("annotate:project", request.project.slug)


@role_required(Role.ADMIN)
@posts_from("annotate:project", "slug")
def remove_example(request: ProjectRequest) -> HttpResponse:
    """Remove the example project with everything in it."""
    try:
        example.remove(request.project, actor=request.user)
    except example.NotRemoved as refusal:
        messages.error(request, str(refusal))
        return redirect("annotate:project", request.project.slug)
    messages.success(request, _("The example was removed."))
    return redirect("annotate:home")
