"""The export page, and its files, which are sent while they are made."""

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
    "demonstrations": (_("Answers"), _("One written answer per line, at the end of its conversation.")),
    "rankings": (
        _("Rankings"),
        _("One complete ranking per line: each answer with its rank, rating, flags and author."),
    ),
    "comparisons": (
        _("Comparisons"),
        _("One pair per line, the better and the worse answer, derived from the rankings. Ties are left out."),
    ),
    "prompts": (_("Prompts"), _("One conversation per line, with your ids and metadata.")),
    "completions": (_("Completions"), _("One answer per line, of those shown for ranking, with its author.")),
}


@dataclass(frozen=True)
class File:
    """A row of the page."""

    kind: str
    name: str | Promise
    meaning: str | Promise
    count: int | None  # None: not counted
    query: str  # of its address
    filename: str  # as JSON Lines


@role_required(Role.ADMIN)
@require_safe
def index(request: ProjectRequest) -> HttpResponse:
    return _page(request, request.GET)


@role_required(Role.ADMIN)
@require_GET
def file(request: ProjectRequest, kind: str) -> HttpResponse:
    """The file, sent while it is made; errors are shown on the page."""
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
