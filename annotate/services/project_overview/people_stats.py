"""What the people of a project have done lately: labels a day, who is at work, and a row for each person."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from statistics import median

from django.db.models import Count, Max, Value
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotate.models import LABELS, Assignment, Kind, Member, Project, Review, Verdict
from annotate.services.overview import FEWEST, RECENT
from annotate.services.project_overview import agreement
from annotate.services.project_overview.agreement import Agreement
from annotate.services.project_overview.charts import Chart, stacked_bars

DAYS = 14  # that the chart shows
WEEK = 7
AGREEMENT_DAYS = 30
MOST_TIMED = 5000  # newest labels of all people that are looked through for them
AT_WORK = timedelta(hours=1)
MOST_PEOPLE = 50  # rows of the table
State = Assignment.ReviewState


class DailyCounts:
    """How many labels each member submitted on each of the last DAYS days, oldest first."""

    def __init__(self, project: Project) -> None:
        today = timezone.localdate()
        self.dates = [today - timedelta(days=back) for back in range(DAYS - 1, -1, -1)]
        self.by_member: defaultdict[int, list[int]] = defaultdict(lambda: [0] * DAYS)
        self.last: dict[int, datetime] = {}  # when each last submitted, within these days
        for day, member, number, last in _per_day(project, self.dates):
            self.by_member[member][day] = number
            self.last[member] = max(last, self.last.get(member, last))
        simulated = set(project.members.filter(is_simulated=True).values_list("pk", flat=True))
        self.simulated = self._totals(pk for pk in self.by_member if pk in simulated)
        self.people = self._totals(pk for pk in self.by_member if pk not in simulated)

    def _totals(self, members: Iterable[int]) -> list[int]:
        rows = [self.by_member[pk] for pk in members]
        return [sum(row[day] for row in rows) for day in range(DAYS)]

    def in_a_week(self, member: Member) -> int:
        return sum(self.by_member.get(member.pk, [])[-WEEK:])


@dataclass(frozen=True, kw_only=True)
class AtWork:
    """A member who has an item in progress, or has submitted something in the last hour."""

    member: Member
    kinds: list[str]  # of what is held
    done: int  # within the last hour

    @property
    def doing(self) -> str:
        """What this is, in words."""
        words = [_("ranking") if kind == Kind.RANKING else _("writing") for kind in self.kinds]
        if self.done:
            text = ngettext("%(number)d label in the last hour", "%(number)d labels in the last hour", self.done)
            words.append(text % {"number": self.done})
        return ", ".join(words)


@dataclass(frozen=True, kw_only=True)
class PersonRow:
    """One member in the table of people."""

    member: Member
    labels: int  # in a week
    ranking_seconds: int | None  # usual active time; None where too few were submitted
    answer_seconds: int | None
    returned_share: float | None  # of the reviewed labels; None where there are too few
    reviewed: int
    agreement: Agreement
    last_active: datetime | None


def _per_day(project: Project, dates: Sequence[date]) -> Iterable[tuple[int, int, int, datetime]]:
    """(index of the day, member, labels, the last of them), read from the index of ends, in one query."""
    starts = [timezone.make_aware(datetime.combine(each, time.min)) for each in dates]
    done = Assignment.objects.submitted().filter(project=project).order_by()
    days = []
    for day, start in enumerate(starts):
        of_day = done.filter(finished_at__gte=start)
        if start != starts[-1]:
            of_day = of_day.filter(finished_at__lt=starts[day + 1])
        counted = of_day.annotate(day=Value(day)).values_list("day", "annotator")
        days.append(counted.annotate(Count("pk"), Max("finished_at")))
    return days[0].union(*days[1:], all=True)


def labels_a_day(counts: DailyCounts) -> Chart:
    """The labels of each of the last days, by people and by simulated annotators."""
    rows = [
        (str(day.day), date_format(day, "MONTH_DAY_FORMAT"), (people, simulated))
        for day, people, simulated in zip(counts.dates, counts.people, counts.simulated, strict=True)
    ]
    span = {
        "first": date_format(counts.dates[0], "MONTH_DAY_FORMAT"),
        "last": date_format(counts.dates[-1], "MONTH_DAY_FORMAT"),
    }
    return stacked_bars(
        "labels-a-day",
        title=_("Labels per day"),
        meaning=_("answers and rankings submitted, %(first)s to %(last)s") % span,
        first_column=_("Day"),
        columns=(_("by people"), _("simulated")),
        rows=rows,
    )


def at_work(members: Sequence[Member], project: Project) -> list[AtWork]:
    """Those of `members` who are at work now, most labels in the last hour first."""
    now = timezone.now()
    holding = Assignment.objects.held().filter(project=project, lease_until__gt=now)
    kinds: defaultdict[int, list[str]] = defaultdict(list)
    for annotator, kind in holding.values_list("annotator", "kind"):
        kinds[annotator].append(kind)
    recent = Assignment.objects.submitted().filter(project=project, finished_at__gt=now - AT_WORK).order_by()
    done = Counter(dict(recent.values_list("annotator").annotate(Count("pk"))))
    found = [
        AtWork(member=member, kinds=sorted(kinds[member.pk]), done=done[member.pk])
        for member in members
        if member.pk in done or member.pk in kinds
    ]
    return sorted(found, key=lambda each: -each.done)


def person_rows(members: Sequence[Member], project: Project, counts: DailyCounts) -> list[PersonRow]:
    """A row for each of `members`, most labels first; the number of queries does not depend on how many there are."""
    seconds, reviewed, returned = _median_seconds(project), _reviewed(project), _returned(project)
    since = timezone.now() - timedelta(days=AGREEMENT_DAYS)
    agreed = agreement.agreements(project, since=since)
    active = _last_active(members, counts)
    rows = [
        PersonRow(
            member=member,
            labels=counts.in_a_week(member),
            ranking_seconds=seconds.get((member.pk, Kind.RANKING)),
            answer_seconds=seconds.get((member.pk, Kind.DEMONSTRATION)),
            returned_share=returned[member.pk] / reviewed[member.pk] if reviewed[member.pk] >= FEWEST else None,
            reviewed=reviewed[member.pk],
            agreement=agreed.get(member.pk, Agreement()),
            last_active=active.get(member.pk),
        )
        for member in members
    ]
    return sorted(rows, key=lambda row: -row.labels)[:MOST_PEOPLE]


def _median_seconds(project: Project) -> dict[tuple[int, str], int]:
    """The usual active time over the RECENT last labels of a week, by member and kind."""
    a_week_ago = timezone.now() - timedelta(days=WEEK)
    done = Assignment.objects.submitted().filter(
        project=project, finished_at__gte=a_week_ago, active_time__isnull=False, annotator__is_simulated=False
    )
    newest = done.order_by("-finished_at").values_list("annotator", "kind", "active_time")[:MOST_TIMED]
    seconds: defaultdict[tuple[int, str], list[float]] = defaultdict(list)
    for annotator, kind, active_time in newest:
        if len(seconds[annotator, kind]) < RECENT:
            assert active_time is not None  # left out above
            seconds[annotator, kind].append(active_time.total_seconds())
    return {key: round(median(values)) for key, values in seconds.items() if len(values) >= FEWEST}


def _reviewed(project: Project) -> Counter[int]:
    """How many items of each member were reviewed."""
    states = (State.ACCEPTED, State.RETURNED, State.CORRECTED)
    seen = Assignment.objects.filter(project=project, review_state__in=states).order_by()
    return Counter(dict(seen.values_list("annotator").annotate(Count("pk"))))


def _returned(project: Project) -> Counter[int]:
    """How many items of each member were returned at least once."""
    found: Counter[int] = Counter()
    for kind in LABELS:
        returns = Review.objects.filter(verdict=Verdict.RETURN, **{f"{kind}__project": project}).order_by()
        pieces = returns.values_list(f"{kind}__annotator").annotate(Count(f"{kind}__assignment", distinct=True))
        found.update(dict(pieces))
    return found


def _last_active(members: Sequence[Member], counts: DailyCounts) -> dict[int, datetime]:
    """When each member last claimed or submitted an item, or reviewed a label."""
    claims = Assignment.objects.filter(annotator__in=members).order_by()
    found = dict(claims.values_list("annotator").annotate(Max("claimed_at")))
    newest = Review.objects.filter(reviewer__in=members).order_by().values("reviewer").annotate(newest=Max("pk"))
    reviews = Review.objects.filter(pk__in=[row["newest"] for row in newest]).values_list("reviewer", "created_at")
    for times in (counts.last.items(), reviews):
        for member, at in times:
            found[member] = max(at, found.get(member, at))
    return found
