"""What a member has done and what is under way: drafts, labels that came back, labels that were handed in, skips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from django.db.models import Count, Q, QuerySet
from django.http import HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from annotate.models import Assignment, Demonstration, Kind, Label, Member, Ranking, Review
from annotate.permissions import ProjectRequest, role_required
from annotate.services.letters import Place, best_answers, by_place
from annotate.views.desks import DESKS
from annotate.views.paging import Page

PAGE_SIZE = 20
SHELVES = {
    "returned": _("Came back"),
    "drafts": _("Under way"),
    "submitted": _("Handed in"),
    "skipped": _("Skipped"),
}
Status = Assignment.Status


@role_required("annotator")
@require_safe
def my_work(request: ProjectRequest) -> HttpResponse:
    """One shelf at a time; without `?show=`, the first one on which something waits for this person."""
    if request.member is None:
        return render(request, "annotate/my_work/page.html", {"shelves": []})
    counts = {name: _on_shelf(name, [request.member]).count() for name in SHELVES}
    waiting = next((name for name in ("returned", "drafts") if counts[name]), "submitted")
    shown = request.GET.get("show") if request.GET.get("show") in SHELVES else waiting
    page = Page(_on_shelf(str(shown), [request.member]), request, size=PAGE_SIZE)
    context = {
        "shelves": [(name, title, counts[name]) for name, title in SHELVES.items()],
        "shown": shown,
        "page": page,
        "pieces": list(_pieces(page.rows, drafts=shown == "drafts")),
    }
    return render(request, "annotate/my_work/page.html", context)


def returned_counts(members: Sequence[Member]) -> Counter[int]:
    """How many labels of each of `members` wait for a correction, by the member's id."""
    returned = _on_shelf("returned", members).order_by().values_list("annotator")
    return Counter(dict(returned.annotate(Count("pk"))))


def _on_shelf(name: str, members: Sequence[Member]) -> QuerySet[Assignment]:
    mine = Assignment.objects.filter(annotator__in=members)
    if name == "drafts":
        mine = mine.filter(status__in=(Status.HELD, Status.EXPIRED, Status.SUBMITTED), draft__isnull=False)
    elif name == "skipped":
        mine = mine.filter(status=Status.SKIPPED)
    else:
        mine = mine.filter(status=Status.SUBMITTED)
    if name == "returned":
        returned = [desk.model.objects.filter(annotator__in=members).newest().returned() for desk in DESKS.values()]
        mine = mine.filter(Q(pk__in=returned[0].values("assignment")) | Q(pk__in=returned[1].values("assignment")))
    return mine.select_related("item__prompt", "item__slate__prompt")


def _pieces(assignments: Iterable[Assignment], *, drafts: bool) -> Iterable[dict[str, Any]]:
    """Each assignment with its newest label and what a reviewer said about it, in a fixed number of queries.

    With `drafts` the words are those under way, and not what was handed in before.
    """
    assignments = list(assignments)
    labels = {label.assignment_id: label for model in (Demonstration, Ranking) for label in _newest(model, assignments)}
    words = {} if drafts else labels
    places = {each.pk: _places(each, words.get(each.pk)) for each in assignments if each.kind == Kind.RANKING}
    best = best_answers(places.values())
    for assignment in assignments:
        label, placed = labels.get(assignment.pk), places.get(assignment.pk)
        yield {
            "assignment": assignment,
            "question": assignment.item.subject_prompt.question,
            "label": label,
            "said": _said(assignment, words.get(assignment.pk)),
            "returned": _returned(label),
            "places": placed,
            "best": best.get(placed[0].completions[0]) if placed else None,
        }


def _newest(model: type[Label], assignments: list[Assignment]) -> QuerySet[Any]:
    related = ["reviews", "placements"] if model is Ranking else ["reviews"]
    return model.objects.newest().filter(assignment__in=assignments).prefetch_related(*related)


def _said(assignment: Assignment, label: Label | None) -> str:
    """The words of the label, else of the draft."""
    if label is not None:
        return label.text if isinstance(label, Demonstration) else label.note
    draft = assignment.draft or {}
    return str(draft.get("text") or draft.get("note") or "")


def _places(assignment: Assignment, label: Label | None) -> list[Place]:
    places = (assignment.draft or {}).get("places", {})
    if isinstance(label, Ranking):
        places = {placement.completion_id: placement.place for placement in label.placements.all()}
    return by_place(assignment, places)


def _returned(label: Label | None) -> Review | None:
    reviews = sorted(label.reviews.all(), key=lambda review: review.pk) if label else []
    return reviews[-1] if reviews and reviews[-1].verdict == "return" else None
