"""Ranking: the page that hands out slates."""

from __future__ import annotations

from django.http import HttpResponse
from django.views.decorators.http import require_safe

from annotate.models import Kind
from annotate.permissions import ProjectRequest, role_required
from annotate.views import assignments


@role_required("annotator")
@require_safe
def rank(request: ProjectRequest) -> HttpResponse:
    """The slate in hand, or the next one."""
    return assignments.hand_out(request, Kind.RANKING)
