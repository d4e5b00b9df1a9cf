"""The audit lists, newest first: who did what in a project, and, for site admins, what belongs to no project."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from annotate.models import AuditEvent, Role
from annotate.permissions import ProjectRequest, SignedInRequest, role_required, site_admin_required
from annotate.views.paging import Page

PAGE_SIZE = 100


@role_required(Role.ADMIN)
@require_safe
def index(request: ProjectRequest) -> HttpResponse:
    events = AuditEvent.objects.for_user(request.user).filter(project=request.project).select_related("actor")
    return render(request, "annotate/audit/index.html", {"page": Page(events, request, size=PAGE_SIZE)})


@site_admin_required
@require_safe
def site(request: SignedInRequest) -> HttpResponse:
    """Sign-ins, tokens, passwords and accounts."""
    events = AuditEvent.objects.of_site().select_related("actor")
    return render(request, "annotate/audit/site.html", {"page": Page(events, request, size=PAGE_SIZE)})
