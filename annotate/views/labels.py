"""Submitted labels of either kind: viewed by their author, and corrected by a newer version."""

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
from annotate.forms.labels import LabelForm
from annotate.models import Label
from annotate.permissions import ProjectRequest, enter
from annotate.services import labels, reviews
from annotate.services.rankings import BadRanking
from annotate.services.text import BadText
from annotate.services.work import OtherBody
from annotate.views.assignments import desk_context, keep_draft
from annotate.views.label_kinds import LABEL_KINDS, LabelKind, next_address, template_path


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def correct(request: ProjectRequest, kind: str, pk: int) -> HttpResponse:
    """A label of one's own, open for correction; what is submitted becomes its newer version."""
    label_kind, label = _fetch(request, kind, pk)
    if newer := label_kind.model.objects.corrections_of(label).first():
        return redirect("annotate:correct", kind, newer.pk)
    if request.method != "POST":
        draft = label.assignment.draft
        stored = label_kind.stored(label) if draft is None else draft
        return _show(request, label_kind, label, label_kind.form(label.assignment, stored=stored))
    form = label_kind.form(label.assignment, request.POST)
    if not form.is_valid():
        return _show(request, label_kind, label, form, status=422)
    try:
        label_kind.correct(label, form.cleaned_data)
    except (BadText, BadRanking) as error:
        form.add_error(None, str(error))
        return _show(request, label_kind, label, form, status=422)
    except OtherBody as error:
        return _show(request, label_kind, label, form, status=409, refusal=str(error))
    messages.success(request, _("Corrected. The new version counts; the earlier one is kept."))
    way_back = _way_back(request, label)
    return HttpResponseClientRedirect(way_back) if request.htmx else redirect(way_back)


@login_required
@posts_from("annotate:correct", "kind", "pk")
def save_draft(request: ProjectRequest, kind: str, pk: int) -> HttpResponse:
    """Keep what was changed so far. 409 with both texts when another window saved something else in the meantime."""
    label_kind, label = _fetch(request, kind, pk)
    save = partial(labels.save_correction_draft, label)
    return keep_draft(request, label.assignment, save, before=label_kind.stored(label))


@login_required
@posts_from("annotate:correct", "kind", "pk")
def leave(request: ProjectRequest, kind: str, pk: int) -> HttpResponse:
    """Discard the correction: the label stays as it was submitted."""
    _label_kind, label = _fetch(request, kind, pk)
    labels.give_up_correction(label)
    return redirect(_way_back(request, label))


def _way_back(request: ProjectRequest, label: Label) -> str:
    """To the queue after an undo of what was just submitted, else to the list it was opened from."""
    if "undo" in request.GET:
        return next_address(label.assignment.kind, label.project)
    return reverse("annotate:my-work", args=[label.project.slug])


def _fetch(request: ProjectRequest, kind: str, pk: int) -> tuple[LabelKind, Label]:
    if kind not in LABEL_KINDS:
        raise Http404
    label_kind = LABEL_KINDS[kind]
    mine = label_kind.model.objects.written_by(request.user)
    subject = ("assignment__project", "assignment__item__prompt", "assignment__item__slate__prompt")
    label = cast(Label, get_object_or_404(mine.select_related("project", "annotator", *subject), pk=pk))
    enter(request, label.project, label.annotator)
    return label_kind, label


def _show(
    request: ProjectRequest, label_kind: LabelKind, label: Label, form: LabelForm, *, status: int = 200, **more: Any
) -> HttpResponse:
    context = desk_context(label.assignment, form, label=label, review=reviews.newest_review(label))
    leave = reverse("annotate:leave-correction", args=[label.assignment.kind, label.pk])
    query = request.META.get("QUERY_STRING", "")
    context |= {"action": request.get_full_path(), "leave": f"{leave}?{query}" if query else leave} | more
    template = "_desk" if request.htmx else "page"
    response = render(request, template_path(label.assignment.kind, template), context, status=status)
    response["HX-Reswap"] = "outerHTML"
    return response
