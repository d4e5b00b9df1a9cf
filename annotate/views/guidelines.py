"""The guidelines, as the people who judge read them."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from annotate.permissions import ProjectRequest, role_required


@role_required("annotator")
@require_safe
def guidelines(request: ProjectRequest) -> HttpResponse:
    return render(request, "annotate/guidelines/page.html")
