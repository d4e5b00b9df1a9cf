"""Home: available work, returned labels, and if there is nothing, why and when that changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.contrib.auth.decorators import login_required
from django.db.models import Count
from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from annotate import hooks
from annotate.models import Assignment, Kind, Member, Project, Role, User
from annotate.permissions import ProjectRequest, enter
from annotate.services import queue
from annotate.services.overview import Work, overviews
from annotate.services.review_queue import ReviewWork, review_work
from annotate.views.my_work import returned_counts


@dataclass(frozen=True)
class Workplace:
    """One membership as the home page shows it."""

    member: Member
    works: list[Work]
    returned: int  # labels that wait for a correction
    review: ReviewWork | None  # None for who does not review
    rankings_this_week: int
    answers_this_week: int
    readiness: hooks.Readiness | None
    panel: hooks.Panel | None


@login_required
@require_safe
def home(request: ProjectRequest) -> HttpResponse:
    """Every project of this person; `?project=` comes first. The first one has the keys, and its links in the bar."""
    mine = request.user.memberships.active().select_related("project").order_by("project__name")
    chosen = request.GET.get("project")
    workplaces = _workplaces(sorted(mine, key=lambda member: member.project.slug != chosen), request.user)
    if workplaces:
        enter(request, workplaces[0].member.project, workplaces[0].member)
    others = Project.objects.for_user(request.user).exclude(pk__in=[each.member.project_id for each in workplaces])
    context = {
        "workplaces": workplaces,
        "others": others.order_by("name"),
        "skips_to_escalate": queue.SKIPS_TO_ESCALATE,
    }
    return render(request, "annotate/home/page.html", context)


def _workplaces(members: Sequence[Member], user: User) -> list[Workplace]:
    """The same number of queries for one membership and for many."""
    works, returned, this_week = overviews(members), returned_counts(members), _done_this_week(members)
    readiness, review = hooks.readiness_of([member.project for member in members]), review_work(members)
    panels = hooks.panels({member.project: Role(member.role) for member in members}, user)
    return [
        Workplace(
            member=member,
            # Rankings first: there are always more of them to do.
            works=sorted(works[member.pk], key=lambda work: work.kind != Kind.RANKING),
            returned=returned[member.pk],
            review=review.get(member.pk),
            rankings_this_week=this_week[member.pk, Kind.RANKING],
            answers_this_week=this_week[member.pk, Kind.DEMONSTRATION],
            readiness=readiness.get(member.project_id),
            panel=panels.get(member.project_id),
        )
        for member in members
    ]


def _done_this_week(members: Sequence[Member]) -> Counter[tuple[int, str]]:
    """How many labels were submitted, by member and kind."""
    a_week_ago = timezone.now() - timedelta(days=7)
    done = Assignment.objects.submitted().filter(annotator__in=members, finished_at__gte=a_week_ago)
    counted = done.order_by().values_list("annotator", "kind").annotate(Count("pk"))
    return Counter({(member_pk, kind): number for member_pk, kind, number in counted})
