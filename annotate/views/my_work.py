"""A member's own work: drafts, returned labels, submitted labels and skips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from django.db.models import Count, QuerySet
from django.http import HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from annotate.models import Assignment, Demonstration, Kind, Label, Member, Ranking, Role
from annotate.permissions import ProjectRequest, role_required
from annotate.services import reviews
from annotate.services.rankings import Place, best_answers, by_place
from annotate.views.paging import Page

PAGE_SIZE = 20
TABS = {
    "returned": _("Returned"),
    "drafts": _("In progress"),
    "submitted": _("Submitted"),
    "skipped": _("Skipped"),
}


@role_required(Role.ANNOTATOR)
@require_safe
def my_work(request: ProjectRequest) -> HttpResponse:
    """One tab at a time; without `?show=`, the first one under which something waits for this person."""
    if request.member is None:
        return render(request, "annotate/my_work/page.html", {"tabs": []})
    counts = {name: _under_tab(name, [request.member]).count() for name in TABS}
    waiting = next((name for name in ("returned", "drafts") if counts[name]), "submitted")
    shown = request.GET.get("show") if request.GET.get("show") in TABS else waiting
    page = Page(_under_tab(str(shown), [request.member]), request, size=PAGE_SIZE)
    context = {
        "tabs": [(name, title, counts[name]) for name, title in TABS.items()],
        "shown": shown,
        "page": page,
        "pieces": list(_pieces(page.rows, drafts=shown == "drafts")),
    }
    return render(request, "annotate/my_work/page.html", context)


def returned_counts(members: Sequence[Member]) -> Counter[int]:
    """How many labels of each of `members` wait for a correction, by the member's id."""
    returned = _under_tab("returned", members).order_by().values_list("annotator")
    return Counter(dict(returned.annotate(Count("pk"))))


def _under_tab(name: str, members: Sequence[Member]) -> QuerySet[Assignment]:
    mine = Assignment.objects.filter(annotator__in=members)
    if name == "drafts":
        mine = mine.with_draft()
    elif name == "skipped":
        mine = mine.skipped()
    elif name == "returned":
        mine = mine.returned()
    else:
        mine = mine.submitted()
    return mine.select_related("item__prompt", "item__slate__prompt")


def _pieces(assignments: Iterable[Assignment], *, drafts: bool) -> Iterable[dict[str, Any]]:
    """Each assignment with its newest label and what a reviewer said about it, in a fixed number of queries.

    With `drafts` the words are those of the draft, not of the submitted label.
    """
    assignments = list(assignments)
    demonstrations = Demonstration.objects.newest().filter(assignment__in=assignments).prefetch_related("reviews")
    rankings = Ranking.objects.newest().filter(assignment__in=assignments).prefetch_related("reviews", "placements")
    labels: dict[int, Label] = {each.assignment_id: each for each in demonstrations}
    labels |= {each.assignment_id: each for each in rankings}
    words = {} if drafts else labels
    places = {each.pk: _places(each, words.get(each.pk)) for each in assignments if each.kind == Kind.RANKING}
    best = best_answers(places.values())
    for assignment in assignments:
        label, placed = labels.get(assignment.pk), places.get(assignment.pk)
        yield {
            "assignment": assignment,
            "question": assignment.item.subject_prompt.question,
            "label": label,
            "text": _text(assignment, words.get(assignment.pk)),
            "review": reviews.newest_review(label) if label else None,
            "places": placed,
            "best": best.get(placed[0].completions[0]) if placed else None,
        }


def _text(assignment: Assignment, label: Label | None) -> str:
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
