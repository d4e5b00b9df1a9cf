"""The samples of one PPO step, and the button that asks people about one of them."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from annotate.addresses import posts_from
from annotate.models import Role
from annotate.permissions import ProjectRequest, role_required
from annotate.services.slates import BadSlate, NewCompletion
from annotate.services.text import BadText
from training.services.labels import sent_samples
from training.services.run_files import step_samples
from training.services.run_files.step_samples import ORDERS
from training.views.runs import fetch


@role_required(Role.ADMIN)
@require_safe
def detail(request: ProjectRequest, pk: int, step: int) -> HttpResponse:
    """What the policy wrote in a step, in the order that the reader wants."""
    run = fetch(request, pk).run
    order = request.GET.get("order", "worst")
    if order not in ORDERS:
        raise Http404
    context = {
        "project": request.project,
        "run": run,
        "step": step,
        "order": order,
        "orders": [(name, words) for name, (words, _key) in ORDERS.items()],
        "samples": step_samples.read(run, step, order=order),
    }
    return render(request, f"training/runs/{'_samples' if request.htmx else 'samples'}.html", context)


@role_required(Role.ADMIN)
@posts_from("training:run-step", "slug", "pk", "step")
def send(request: ProjectRequest, pk: int, step: int, index: int) -> HttpResponse:
    """Let people rank a sample and the reference's answer."""
    run = fetch(request, pk).run
    samples = {sample.index: sample for sample in step_samples.read(run, step, order="worst")}
    if index not in samples:
        raise Http404
    sample = samples[index]
    answer, reference = NewCompletion(sample.text, sample.finish_reason), NewCompletion(sample.reference_text)
    try:
        sent_samples.send(run, prompt_id=sample.prompt_id, answer=answer, reference=reference, sent_by=request.user)
        messages.success(request, _("People are now asked to rank the two answers."))
    except (BadSlate, BadText) as refusal:
        messages.error(request, str(refusal))
    order = request.POST.get("order", "worst")
    address = reverse("training:run-step", args=[request.project.slug, pk, step])
    return redirect(f"{address}?order={order if order in ORDERS else 'worst'}")
