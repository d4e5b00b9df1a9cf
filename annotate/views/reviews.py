"""Reviewing: labels that wait for a verdict, one label at a time, and items that too many people have skipped."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe
from django_htmx.http import HttpResponseClientRedirect

from annotate.addresses import posts_from
from annotate.forms.reviews import ReviewForm
from annotate.models import LABELS, Completion, Kind, Label, Ranking, Review, Role, Verdict, WorkItem
from annotate.permissions import ProjectRequest, role_required
from annotate.services import queue, review_queue, reviews
from annotate.services.rankings import Place, best_answers, by_place, letters, same_text

PAGE_SIZE = 50
SUBJECT = {Kind.DEMONSTRATION.value: ["prompt"], Kind.RANKING.value: ["slate__prompt", "assignment"]}


@role_required(Role.REVIEWER)
@require_safe
def index(request: ProjectRequest) -> HttpResponse:
    queues = []
    for kind in Kind.values:
        waiting = reviews.waiting(request.project, kind, reviewer=request.member)
        shown = waiting.select_related("annotator__user", *SUBJECT[kind])[:PAGE_SIZE]
        queues.append({"kind": kind, "count": waiting.count(), "rows": _rows(shown, kind)})
    return render(request, "annotate/reviews/index.html", {"queues": queues})


@role_required(Role.REVIEWER)
@require_safe
def next_label(request: ProjectRequest) -> HttpResponse:
    """Go to the label that has waited longest; with `?show=corrected`, of the corrected ones."""
    only_corrected = request.GET.get("show") == "corrected"
    found = review_queue.next_label(request.project, reviewer=request.member, only_corrected=only_corrected)
    if found is None:
        return redirect("annotate:reviews", request.project.slug)
    return redirect("annotate:review", request.project.slug, str(found._meta.model_name), found.pk)


@role_required(Role.REVIEWER)
@require_safe
def label(request: ProjectRequest, kind: str, pk: int) -> HttpResponse:
    return _label_page(request, _label(request, kind, pk))


@role_required(Role.REVIEWER)
@posts_from("annotate:review", "slug", "kind", "pk")
def record(request: ProjectRequest, kind: str, pk: int) -> HttpResponse:
    """Store the verdict and go to the next label that waits."""
    subject = _label(request, kind, pk)
    if request.member is None:
        raise PermissionDenied
    form = ReviewForm(request.POST)
    if not form.is_valid():
        return _label_page(request, subject, form, status=422)
    comment = form.cleaned_data["comment"]
    try:
        review = reviews.record(subject, reviewer=request.member, **form.cleaned_data)
    except reviews.OwnLabel:
        messages.error(request, _("This is your own label. Someone else has to review it."))
        return _go_on(request, None)
    except reviews.Superseded:
        messages.warning(request, _("The author has corrected it in the meantime. This is the newer version."))
        return _label_page(request, _label(request, kind, subject.superseded_by.pk), comment=comment, status=409)
    except reviews.AlreadyReviewed:
        messages.warning(
            request, _("It has been reviewed in the meantime. If you submit your verdict now, it replaces that one.")
        )
        return _label_page(request, subject, comment=comment, status=409)
    following = _following(request, kind)
    _tell_done(request, subject, review, is_last=following is None)
    return _go_on(request, following)


@role_required(Role.REVIEWER)
@require_safe
def escalations(request: ProjectRequest) -> HttpResponse:
    items = _escalated(request).select_related("prompt", "slate__prompt")
    items = items.prefetch_related("assignments__annotator__user", "slate__completions").order_by("pk")[:PAGE_SIZE]
    rows = [(item, _skipped_answers(item)) for item in items]
    context = {"rows": rows, "skips_to_escalate": queue.SKIPS_TO_ESCALATE}
    return render(request, "annotate/reviews/escalations.html", context)


@role_required(Role.REVIEWER)
@posts_from("annotate:escalations", "slug")
def settle(request: ProjectRequest, pk: int) -> HttpResponse:
    """Give an escalated item back to the queue (`decision=reopen`) or take it out for good (`withdraw`)."""
    item = get_object_or_404(_escalated(request), pk=pk)
    if request.POST.get("decision") == "withdraw":
        reviews.withdraw(item, actor=request.user)
        messages.success(request, _("Withdrawn. No one is asked for it any more."))
    else:
        reviews.reopen(item, actor=request.user)
        messages.success(request, _("Returned to the queue for people who have not skipped it."))
    return redirect("annotate:escalations", request.project.slug)


def _label(request: ProjectRequest, kind: str, pk: int) -> Label:
    model = LABELS.get(kind)
    if model is None:
        raise Http404
    labels = model.objects.for_user(request.user).filter(project=request.project)
    found: Label | None = labels.select_related("annotator__user", *SUBJECT[kind]).filter(pk=pk).first()
    if found is None:
        raise Http404
    return found


def _following(request: ProjectRequest, kind: str) -> Label | None:
    """The next label to review: of `kind` as long as one waits, then of the others."""
    kinds = sorted(Kind.values, key=lambda each: each != kind)
    firsts = (reviews.waiting(request.project, each, reviewer=request.member).first() for each in kinds)
    return next((label for label in firsts if label), None)


def _tell_done(request: ProjectRequest, subject: Label, review: Review, *, is_last: bool) -> None:
    """Say on the next page what was done, with the way back to it: a key is easily pressed once too often."""
    done = _("Accepted.") if review.verdict == Verdict.ACCEPT else _("Returned.")
    if is_last:
        done = f"{done} {_('That was the last one.')}"
    link = format_html('<a href="{}">{}</a>', _address(request, subject), _("View the label"))
    messages.success(request, format_html("{} {}", done, link))


def _go_on(request: ProjectRequest, following: Label | None) -> HttpResponse:
    address = _address(request, following) if following else reverse("annotate:reviews", args=[request.project.slug])
    return HttpResponseClientRedirect(address) if request.htmx else redirect(address)


def _address(request: ProjectRequest, subject: Label) -> str:
    return reverse("annotate:review", args=[request.project.slug, subject._meta.model_name, subject.pk])


def _label_page(
    request: ProjectRequest, subject: Label, form: ReviewForm | None = None, *, comment: str = "", status: int = 200
) -> HttpResponse:
    kind = str(subject._meta.model_name)
    earlier = list(subject.reviews.select_related("reviewer__user").order_by("pk"))
    initial = {"comment": comment, "seen": earlier[-1].pk if earlier else None}
    waiting = [reviews.waiting(request.project, each, reviewer=request.member) for each in Kind.values]
    context: dict[str, Any] = {
        "label": subject,
        "kind": kind,
        "form": form or ReviewForm(initial=initial),
        "waiting_count": sum(labels.count() for labels in waiting),
        "earlier": earlier,
        "newer": getattr(subject, "superseded_by", None),
        "is_own": request.member is not None and subject.annotator_id == request.member.pk,
    }
    if isinstance(subject, Ranking):
        context |= {"prompt": subject.slate.prompt, "columns": _side_by_side(request, subject)}
    else:
        context["prompt"] = subject.prompt
    return render(request, "annotate/reviews/label.html", context, status=status)


def _rows(labels: QuerySet[Any], kind: str) -> list[dict[str, Any]]:
    """The labels of a queue, each with its question; of rankings, what they say as well."""
    if kind != Kind.RANKING:
        return [{"label": label, "question": label.prompt.question} for label in labels]
    rankings = list(labels.prefetch_related("placements"))
    places = {ranking.pk: _places(ranking) for ranking in rankings}
    best = best_answers(places.values())
    return [
        {
            "label": ranking,
            "question": ranking.slate.prompt.question,
            "places": places[ranking.pk],
            "best": best.get(places[ranking.pk][0].completions[0]),
        }
        for ranking in rankings
    ]


def _places(ranking: Ranking) -> list[Place]:
    return by_place(ranking.assignment, {each.completion_id: each.place for each in ranking.placements.all()})


def _side_by_side(request: ProjectRequest, ranking: Ranking) -> list[dict[str, Any]]:
    """The reviewed ranking first, then what others said of the same slate, each under its annotator's letters."""
    of_slate = Ranking.objects.for_user(request.user).filter(slate=ranking.slate)
    shown = of_slate.filter(Q(pk=ranking.pk) | Q(superseded_by=None)).exclude(
        Q(annotator=ranking.annotator) & ~Q(pk=ranking.pk)
    )
    shown = shown.select_related("annotator__user", "assignment").prefetch_related("placements")
    completions = {completion.pk: completion for completion in ranking.slate.completions.all()}
    reviewed = letters(ranking.assignment.card_order)
    return [
        {"ranking": one, "cards": _cards(one, completions, {} if one == ranking else reviewed)}
        for one in sorted(shown, key=lambda one: (one.pk != ranking.pk, one.pk))
    ]


def _cards(ranking: Ranking, completions: dict[int, Completion], elsewhere: dict[int, str]) -> list[dict[str, Any]]:
    """The answers, best first; `elsewhere` are the letters by which another ranking calls them."""
    lettered = letters(ranking.assignment.card_order)
    same = same_text({letter: completions[pk].text for pk, letter in lettered.items()})
    return [
        {
            "letter": letter,
            "place": place.number,
            "completion": completions[pk],
            "elsewhere": elsewhere.get(pk),
            "same": same[letter],
        }
        for place in _places(ranking)
        for letter, pk in zip(place.letters, place.completions, strict=True)
    ]


def _skipped_answers(item: WorkItem) -> list[dict[str, Any]]:
    """The answers of a slate, each with the letters by which the reasons of those who skipped it may call it."""
    if item.slate is None:
        return []
    skips = [(each.annotator, letters(each.card_order)) for each in item.assignments.all() if each.skip_reason]
    return [
        {"completion": one, "called": [(annotator, lettered.get(one.pk)) for annotator, lettered in skips]}
        for one in item.slate.completions.all()
    ]


def _escalated(request: ProjectRequest) -> QuerySet[WorkItem]:
    return WorkItem.objects.for_user(request.user).escalated().filter(project=request.project)
