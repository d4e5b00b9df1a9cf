"""Labels that were handed in, of either kind: read again by their author, and corrected by a newer version."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods
from django_htmx.http import HttpResponseClientRedirect

from annotate.addresses import posts_from
from annotate.models import Label, Review
from annotate.permissions import ProjectRequest
from annotate.services import corrections
from annotate.services.rankings import BadRanking
from annotate.services.text import BadText
from annotate.services.work import OtherBody
from annotate.views.assignments import desk_context, keep_draft
from annotate.views.desks import DESKS, Desk, LabelForm, next_address


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def correct(request: ProjectRequest, kind: str, pk: int) -> HttpResponse:
    """An own label, open on its desk; what is handed in becomes its newer version."""
    desk, label = _fetch(request, kind, pk)
    if newer := desk.model.objects.filter(supersedes=label).first():
        return redirect("annotate:correct", kind, newer.pk)
    if request.method != "POST":
        return _show(request, desk, label, desk.form(label.assignment, stored=_under_way(desk, label)))
    form = desk.form(label.assignment, request.POST)
    if not form.is_valid():
        return _show(request, desk, label, form, status=422)
    try:
        desk.correct(label, form.cleaned_data)
    except (BadText, BadRanking) as error:
        form.add_error(None, str(error))
        return _show(request, desk, label, form, status=422)
    except OtherBody as error:
        return _show(request, desk, label, form, status=409, refusal=str(error))
    messages.success(request, _("Corrected. The new version counts; the earlier one is kept."))
    way_back = _way_back(request, label)
    return HttpResponseClientRedirect(way_back) if request.htmx else redirect(way_back)


@login_required
@posts_from("annotate:correct", "kind", "pk")
def save_draft(request: ProjectRequest, kind: str, pk: int) -> HttpResponse:
    """Keep what was changed so far. 409 with both texts when another window saved something else in the meantime."""
    desk, label = _fetch(request, kind, pk)
    save = partial(corrections.save_draft, label)
    return keep_draft(request, label.assignment, save, before=desk.stored(label))


@login_required
@posts_from("annotate:correct", "kind", "pk")
def leave(request: ProjectRequest, kind: str, pk: int) -> HttpResponse:
    """Give the correction up: the label stays as it was handed in."""
    _desk, label = _fetch(request, kind, pk)
    corrections.give_up(label)
    return redirect(_way_back(request, label))


def _under_way(desk: Desk, label: Label) -> dict[str, Any]:
    """The correction as far as it has come, else the label itself."""
    draft = label.assignment.draft
    return desk.stored(label) if draft is None else cast(dict[str, Any], draft)


def _way_back(request: ProjectRequest, label: Label) -> str:
    """To the queue for who has just handed it in and thought better of it, else to the list it was opened from."""
    if "undo" in request.GET:
        return next_address(label.assignment.kind, label.project)
    return reverse("annotate:my-work", args=[label.project.slug])


def _fetch(request: ProjectRequest, kind: str, pk: int) -> tuple[Desk, Label]:
    if kind not in DESKS:
        raise Http404
    desk = DESKS[kind]
    mine = desk.model.objects.for_user(request.user).filter(annotator__user=request.user, annotator__removed_at=None)
    subject = ("assignment__project", "assignment__item__prompt", "assignment__item__slate__prompt")
    label = cast(Label, get_object_or_404(mine.select_related("project", "annotator", *subject), pk=pk))
    request.project, request.member, request.role = label.project, label.annotator, label.annotator.role
    return desk, label


def _show(
    request: ProjectRequest, desk: Desk, label: Label, form: LabelForm, *, status: int = 200, **more: Any
) -> HttpResponse:
    returned = Review.objects.returning(desk.model, label.pk).first()
    context = desk_context(label.assignment, form, label=label, returned=returned)
    leave = reverse("annotate:leave-correction", args=[label.assignment.kind, label.pk])
    query = request.META.get("QUERY_STRING", "")
    context |= {"action": request.get_full_path(), "leave": f"{leave}?{query}" if query else leave} | more
    template = "_desk" if request.htmx else "page"
    response = render(request, f"annotate/{desk.folder}/{template}.html", context, status=status)
    response["HX-Reswap"] = "outerHTML"
    return response
