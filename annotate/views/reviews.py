"""Reviewing: the queue of labels nobody has looked at, one label with its verdict, and what annotators gave up on."""

from __future__ import annotations

from string import ascii_uppercase
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import F, Prefetch, Q, QuerySet
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from annotate.forms.reviews import ReviewForm
from annotate.models import Kind, Label, Placement, Ranking, WorkItem
from annotate.permissions import ProjectRequest, role_required
from annotate.services import reviews

PAGE_SIZE = 50
SUBJECT = {Kind.DEMONSTRATION.value: ["prompt"], Kind.RANKING.value: ["slate__prompt"]}


@role_required("reviewer")
@require_safe
def index(request: ProjectRequest) -> HttpResponse:
    queues = [
        {
            "kind": kind,
            "count": waiting.count(),
            "labels": waiting.select_related("annotator__user", *SUBJECT[kind])[:PAGE_SIZE],
        }
        for kind in Kind.values
        for waiting in [reviews.waiting(request.project, kind, reviewer=request.member)]
    ]
    return render(request, "annotate/reviews/index.html", {"queues": queues})


@role_required("reviewer")
@require_safe
def label(request: ProjectRequest, kind: str, pk: int) -> HttpResponse:
    return _label_page(request, _label(request, kind, pk), ReviewForm())


@role_required("reviewer")
@require_POST
def record(request: ProjectRequest, kind: str, pk: int) -> HttpResponse:
    """Store the verdict and go to the next label that waits."""
    subject = _label(request, kind, pk)
    if request.member is None:
        raise PermissionDenied
    form = ReviewForm(request.POST)
    if not form.is_valid():
        return _label_page(request, subject, form, status=422)
    try:
        reviews.record(subject, reviewer=request.member, **form.cleaned_data)
    except reviews.OwnLabel:
        messages.error(request, _("This is your own: somebody else reviews it."))
        return redirect("annotate:reviews", request.project.slug)
    except reviews.Superseded:
        messages.warning(request, _("The author corrected it in the meantime. This is the newer version."))
        return redirect("annotate:review", request.project.slug, kind, subject.superseded_by.pk)
    following = reviews.waiting(request.project, kind, reviewer=request.member).first()
    if following is None:
        messages.success(request, _("Stored. That was the last one."))
        return redirect("annotate:reviews", request.project.slug)
    return redirect("annotate:review", request.project.slug, kind, following.pk)


@role_required("reviewer")
@require_safe
def escalations(request: ProjectRequest) -> HttpResponse:
    items = (
        _escalated(request).select_related("prompt", "slate__prompt").prefetch_related("assignments__annotator__user")
    )
    return render(request, "annotate/reviews/escalations.html", {"items": items.order_by("pk")[:PAGE_SIZE]})


@role_required("reviewer")
@require_POST
def settle(request: ProjectRequest, pk: int) -> HttpResponse:
    """Give an escalated item back to the queue (`decision=reopen`) or take it out for good (`withdraw`)."""
    item = get_object_or_404(_escalated(request), pk=pk)
    if request.POST.get("decision") == "withdraw":
        reviews.withdraw(item, actor=request.user)
        messages.success(request, _("Withdrawn: nobody is asked for it any more."))
    else:
        reviews.reopen(item, actor=request.user)
        messages.success(request, _("Back in the queue, for people who have not skipped it."))
    return redirect("annotate:escalations", request.project.slug)


def _label(request: ProjectRequest, kind: str, pk: int) -> Label:
    model = reviews.MODELS.get(kind)
    if model is None:
        raise Http404
    labels = model.objects.for_user(request.user).filter(project=request.project)
    found: Label | None = labels.select_related("annotator__user", *SUBJECT[kind]).filter(pk=pk).first()
    if found is None:
        raise Http404
    return found


def _label_page(request: ProjectRequest, subject: Label, form: ReviewForm, *, status: int = 200) -> HttpResponse:
    kind = str(subject._meta.model_name)
    context: dict[str, Any] = {
        "label": subject,
        "kind": kind,
        "form": form,
        "waiting_count": reviews.waiting(request.project, kind, reviewer=request.member).count(),
        "earlier": subject.reviews.select_related("reviewer__user").order_by("pk"),
        "is_own": request.member is not None and subject.annotator_id == request.member.pk,
    }
    if isinstance(subject, Ranking):
        context |= {"prompt": subject.slate.prompt, "columns": _side_by_side(request, subject)}
    else:
        context["prompt"] = subject.prompt
    return render(request, "annotate/reviews/label.html", context, status=status)


def _side_by_side(request: ProjectRequest, ranking: Ranking) -> list[dict[str, Any]]:
    """The reviewed ranking first, then what others said of the same slate, under the same letters."""
    of_slate = Ranking.objects.for_user(request.user).filter(slate=ranking.slate)
    shown = of_slate.filter(Q(pk=ranking.pk) | Q(superseded_by=None)).exclude(
        Q(annotator=ranking.annotator) & ~Q(pk=ranking.pk)
    )
    placed = Placement.objects.select_related("completion").order_by(F("place").asc(nulls_last=True), "completion")
    shown = shown.select_related("annotator__user").prefetch_related(Prefetch("placements", placed))
    return [
        {"ranking": one, "cards": _cards(one)} for one in sorted(shown, key=lambda one: (one.pk != ranking.pk, one.pk))
    ]


def _cards(ranking: Ranking) -> list[dict[str, Any]]:
    """The placements, best first, with letters that tell the completions apart but not who wrote them."""
    placements = list(ranking.placements.all())
    in_order = sorted(placement.completion_id for placement in placements)
    return [
        {"letter": ascii_uppercase[in_order.index(placement.completion_id)], "placement": placement}
        for placement in placements
    ]


def _escalated(request: ProjectRequest) -> QuerySet[WorkItem]:
    items = WorkItem.objects.for_user(request.user)
    return items.filter(project=request.project, status=WorkItem.Status.ESCALATED)
