"""Writing: the page that hands out prompts, and the preview of an answer."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from annotate.addresses import posts_from
from annotate.models import Kind
from annotate.permissions import ProjectRequest, SignedInRequest, role_required
from annotate.services.text import MESSAGE_LIMIT
from annotate.views import assignments


@role_required("annotator")
@require_safe
def write(request: ProjectRequest) -> HttpResponse:
    """The prompt in hand, or the next one."""
    return assignments.hand_out(request, Kind.DEMONSTRATION)


@login_required
@posts_from("annotate:home")
def preview(request: SignedInRequest) -> HttpResponse:
    """The posted text as its readers will see it."""
    return render(
        request, "annotate/demonstrations/_preview.html", {"text": request.POST.get("text", "")[:MESSAGE_LIMIT]}
    )
