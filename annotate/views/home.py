"""Home: what is there for me, what came back, and if nothing, why and when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from annotate import hooks
from annotate.models import Assignment, Kind, Member, Project
from annotate.permissions import ProjectRequest
from annotate.services.overview import Work, overview
from annotate.views.my_work import returned_count


@dataclass(frozen=True)
class Workplace:
    """One membership as the home page shows it."""

    member: Member
    works: list[Work]
    returned: int  # labels that wait for a correction
    rankings_this_week: int
    answers_this_week: int
    readiness: hooks.Readiness | None


@login_required
@require_safe
def home(request: ProjectRequest) -> HttpResponse:
    mine = Member.objects.active().filter(user=request.user).select_related("project").order_by("project__name")
    workplaces = [_workplace(member) for member in mine]
    if len(workplaces) == 1:
        # With one project there is no question whose links belong into the top bar.
        member = workplaces[0].member
        request.project, request.member, request.role = member.project, member, _role(request, member)
    others = Project.objects.for_user(request.user).exclude(pk__in=[each.member.project_id for each in workplaces])
    context = {"workplaces": workplaces, "others": others.order_by("name")}
    return render(request, "annotate/home/page.html", context)


def _workplace(member: Member) -> Workplace:
    a_week_ago = timezone.now() - timedelta(days=7)
    submitted = Assignment.objects.filter(
        annotator=member, status=Assignment.Status.SUBMITTED, finished_at__gte=a_week_ago
    )
    return Workplace(
        member=member,
        # Rankings first: there are always more of them to do.
        works=sorted(overview(member), key=lambda work: work.kind != Kind.RANKING),
        returned=returned_count(member),
        rankings_this_week=submitted.filter(kind=Kind.RANKING).count(),
        answers_this_week=submitted.filter(kind=Kind.DEMONSTRATION).count(),
        readiness=hooks.readiness(member.project),
    )


def _role(request: ProjectRequest, member: Member) -> str:
    return "admin" if request.user.is_superuser else member.role
