"""A model as one file to take along: asking for it, how far it is, and the file itself."""

from __future__ import annotations

from typing import cast

from django.contrib import messages
from django.http import FileResponse, Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from annotate.addresses import fragment_of
from annotate.models import Role
from annotate.permissions import ProjectRequest, role_required
from training.models import Download
from training.services.registry import downloads
from training.views.models import download_context, fetch


@role_required(Role.ADMIN)
@require_http_methods(["GET", "HEAD", "POST"])
@fragment_of("training:model", "slug", "pk")
def download(request: ProjectRequest, pk: int) -> HttpResponse:
    """How far the downloads of a model are; POST asks for one, of an adapter merged with its base unless it says so."""
    model = fetch(request, pk)
    if request.method == "POST":
        try:
            alone = request.POST.get("form") == "adapter"
            downloads.ask(model, asked_by=request.user, adapter_alone=alone)
        except downloads.NoWeights as refusal:
            messages.error(request, str(refusal))
        return redirect("training:model", request.project.slug, model.pk)
    context = {"project": request.project, "model": model, **download_context(model)}
    return render(request, "training/downloads/_download.html", context)


@role_required(Role.ADMIN)
@require_safe
def file(request: ProjectRequest, pk: int) -> HttpResponse:
    """The packed file."""
    ready = Download.objects.for_user(request.user).filter(project=request.project, status=Download.Status.READY)
    found = get_object_or_404(ready.select_related("model_version"), pk=pk)
    try:
        content = found.path.open("rb")
    except FileNotFoundError:
        raise Http404(_("This download has expired. Create a new one.")) from None
    name = f"{request.project.slug}-{found.name}.tar"
    packed = FileResponse(content, as_attachment=True, filename=name, content_type="application/x-tar")
    return cast(HttpResponse, packed)  # what the decorator promises; a file is streamed instead of held
