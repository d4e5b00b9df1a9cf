"""The overview of a project: what an admin has to decide, how far the round is, who is at work, and how it goes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotate import hooks
from annotate.models import AuditEvent, Kind, Project, WorkItem
from annotate.services import queue, review_queue, splits
from annotate.services.project_overview import people_stats
from annotate.services.project_overview.charts import Chart
from annotate.services.project_overview.parts import Decision, TrainingOverview, Urgency
from annotate.services.project_overview.people_stats import AtWork, PersonRow
from annotate.services.review_queue import MOST_COUNTED

IMPORT_DAYS = 7  # for which rejected lines of an import are shown


@dataclass(frozen=True, kw_only=True)
class Step:
    """One of the first things to do in a new project."""

    text: str
    is_done: bool
    address: str
    action: str


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What there is in a project."""

    train_prompts: int
    heldout_prompts: int
    answers: int  # the newest version of each
    rankings: int
    open_answers: int  # items that someone could claim
    open_rankings: int
    members: int


@dataclass(frozen=True, kw_only=True)
class ProjectOverview:
    """The page."""

    totals: Totals
    split_warning: str  # what cannot be done while one side of the split is empty; see services.splits
    steps: list[Step]  # empty once there are labels
    training: TrainingOverview
    decisions: list[Decision]  # the most urgent first
    charts: list[Chart]
    at_work: list[AtWork]
    people: list[PersonRow]
    has_more_people: bool


def build(project: Project) -> ProjectOverview:
    """The overview of `project`; the number of queries does not depend on members, rounds or labels."""
    members = list(project.members.active().select_related("user").order_by("pk"))
    totals, training = _totals(project, len(members)), hooks.overview(project)
    counts = people_stats.DailyCounts(project)
    has_labels = bool(totals.answers or totals.rankings)
    rows = people_stats.person_rows(members, project, counts)
    return ProjectOverview(
        totals=totals,
        split_warning=splits.warning(project, train=totals.train_prompts, heldout=totals.heldout_prompts),
        steps=[] if has_labels else _first_steps(project, totals),
        training=training,
        decisions=sorted([*training.decisions, *_decisions(project)], key=lambda each: each.urgency),
        charts=[people_stats.labels_a_day(counts), *training.charts],
        at_work=people_stats.at_work(members, project),
        people=rows,
        has_more_people=len(members) > len(rows),
    )


def _totals(project: Project, members: int) -> Totals:
    sides = project.prompts.active().sides()
    open_items = WorkItem.objects.filter(project=project, status=WorkItem.Status.OPEN)
    return Totals(
        train_prompts=sides["train"],
        heldout_prompts=sides["heldout"],
        answers=project.demonstrations.newest().count(),
        rankings=project.rankings.newest().count(),
        open_answers=open_items.of_kind(Kind.DEMONSTRATION).count(),
        open_rankings=open_items.of_kind(Kind.RANKING).count(),
        members=members,
    )


def _first_steps(project: Project, totals: Totals) -> list[Step]:
    slug = project.slug
    return [
        Step(
            text=_("Add prompts for people to answer."),
            is_done=bool(totals.train_prompts or totals.heldout_prompts),
            address=reverse("annotate:add-prompts", args=[slug]),
            action=_("Add prompts"),
        ),
        Step(
            text=_("Write guidelines that say what a good answer is."),
            is_done=bool(project.guidelines.strip()),
            address=reverse("annotate:edit-guidelines", args=[slug]),
            action=_("Write guidelines"),
        ),
        Step(
            text=_("Invite people to write and rank answers."),
            is_done=totals.members > 1,
            address=reverse("annotate:members", args=[slug]),
            action=_("Invite people"),
        ),
    ]


def _decisions(project: Project) -> list[Decision]:
    """The decisions that `annotate` itself contributes."""
    found = []
    escalated = WorkItem.objects.filter(project=project, kind__in=Kind.values).escalated().count()
    if escalated:
        text = ngettext(
            "%(number)d item was skipped by %(people)d people.",
            "%(number)d items were skipped by %(people)d people.",
            escalated,
        )
        values = {"number": escalated, "people": queue.SKIPS_TO_ESCALATE}
        address = reverse("annotate:escalations", args=[project.slug])
        action = _("View escalations")
        found.append(Decision(urgency=Urgency.WAITING, text=text % values, address=address, action=action))
    return [*found, *_import_faults(project), *_labels_to_review(project)]


def _import_faults(project: Project) -> list[Decision]:
    """The newest import, if it rejected lines, for a while."""
    imports = AuditEvent.objects.filter(project=project, action="prompts.imported")
    newest = (
        imports.filter(created_at__gte=timezone.now() - timedelta(days=IMPORT_DAYS)).order_by("-created_at").first()
    )
    rejected = newest.detail.get("rejected", 0) if newest else 0
    if newest is None or not rejected:
        return []
    text = ngettext(
        "The import on %(day)s rejected %(number)d line.",
        "The import on %(day)s rejected %(number)d lines.",
        rejected,
    )
    values = {"number": rejected, "day": date_format(timezone.localtime(newest.created_at), "MONTH_DAY_FORMAT")}
    address = reverse("annotate:add-prompts", args=[project.slug])
    return [Decision(urgency=Urgency.WAITING, text=text % values, address=address, action=_("Import again"))]


def _labels_to_review(project: Project) -> list[Decision]:
    waiting = review_queue.count_waiting(project)
    if not waiting:
        return []
    if waiting > MOST_COUNTED:
        text = _("More than %(number)d labels are waiting for review.") % {"number": MOST_COUNTED}
    else:
        text = ngettext("%(number)d label is waiting for review.", "%(number)d labels are waiting for review.", waiting)
        text %= {"number": waiting}
    address = reverse("annotate:next-review", args=[project.slug])
    return [Decision(urgency=Urgency.OPEN, text=text, address=address, action=_("Review"))]
