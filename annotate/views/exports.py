"""What people judged, as files to take along: which there are, and each of them, sent while it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlencode

from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET, require_safe

from annotate.forms.exports import ExportForm, ScopeForm
from annotate.models import Role
from annotate.permissions import ProjectRequest, role_required
from annotate.services.exporting import exports
from annotate.services.exporting.exports import Export

NAMES: dict[str, tuple[str | Promise, str | Promise]] = {
    "demonstrations": (_("Answers"), _("A written answer a line, at the end of its conversation.")),
    "rankings": (
        _("Rankings"),
        _("A ranking a line, with nothing left out: each answer with its place, rating and flags, and who wrote it."),
    ),
    "comparisons": (
        _("Comparisons"),
        _("A pair a line, the better answer and the worse one, derived from the rankings. Ties give none."),
    ),
    "prompts": (_("Prompts"), _("A conversation a line, with your ids and metadata.")),
    "completions": (_("Completions"), _("An answer a line, of those that were put before people, and who wrote it.")),
}


@dataclass(frozen=True)
class File:
    """A row of the page."""

    kind: str
    name: str | Promise
    meaning: str | Promise
    count: int | None  # None: nobody has counted
    query: str  # of its address
    filename: str  # as JSON Lines


@role_required(Role.ADMIN)
@require_safe
def index(request: ProjectRequest) -> HttpResponse:
    return _page(request, request.GET)


@role_required(Role.ADMIN)
@require_GET
def file(request: ProjectRequest, kind: str) -> HttpResponse:
    """The file, sent while it is made; what cannot be exported is said on the page."""
    if kind not in exports.KINDS:
        raise Http404
    form = ExportForm(request.GET, project=request.project)
    if not form.is_valid():
        return _page(
            request, {}, faults=[str(fault) for faults in form.errors.values() for fault in faults], status=422
        )
    export = form.export(kind)
    try:
        pieces = exports.start(export, actor=request.user)
    except exports.Gone as gone:
        return _page(request, {}, faults=[str(gone)], status=410)
    streamed = StreamingHttpResponse(pieces, headers=export.headers)
    return cast(HttpResponse, streamed)  # what the decorator promises; see config/asgi.py for how it is sent


def _page(
    request: ProjectRequest, chosen: Mapping[str, str], *, faults: Sequence[str] = (), status: int = 200
) -> HttpResponse:
    form = ScopeForm(chosen, project=request.project)
    status = status if form.is_valid() else 422
    context = {"form": form, "files": _files(form), "selection": form.selection, "faults": faults}
    return render(request, "annotate/exports/index.html", context, status=status)


def _files(form: ScopeForm) -> list[File]:
    selection, query = form.selection, urlencode(form.query)
    counts = selection.count()
    return [
        File(kind, name, meaning, counts.get(kind), query, Export(kind, "jsonl", selection).filename)
        for kind, (name, meaning) in NAMES.items()
    ]
