"""The bar at the top: the projects to switch between, the pages of the one at hand, and what waits on them.

Each page in the bar is one row of PAGES.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from django.urls import NoReverseMatch, reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from annotate.models import Assignment, Member, Project, Role, User
from annotate.permissions import SignedInRequest
from annotate.services import review_queue
from annotate.services.review_queue import MOST_COUNTED

MOST_PROJECTS = 30  # in the switcher; the list of projects has all of them
SWITCHED_BY_KEY = 9  # projects have the digits from 1 on

Words = str | Promise


@dataclass(frozen=True, kw_only=True)
class Place:
    """The project that the bar is about, and as what this person is in it."""

    project: Project
    member: Member | None  # None: a site admin who is no member
    role: Role


class Page(NamedTuple):
    """A page of a project in the bar."""

    address: str  # its name; one of an app that is not installed leaves the page out
    text: Words
    key: str  # after G
    role: Role
    also: tuple[str, ...] = ()  # folders of the project's addresses that belong to this page as well
    waiting: Callable[[Place], int] = lambda place: 0


class Link(NamedTuple):
    """A page as the bar shows it."""

    address: str
    text: Words
    key: str
    waiting: str  # a number, "99+", or "" for nothing
    is_current: bool


class Choice(NamedTuple):
    """A project to switch to; `digit` is its key in the open menu."""

    name: str
    address: str
    digit: str
    is_current: bool


@dataclass(frozen=True, kw_only=True)
class Bar:
    """What the bar shows. Without a project at hand there are only the projects to choose from."""

    project: Project | None
    choices: list[Choice]
    has_more: bool  # projects than the switcher lists
    links: list[Link]

    @property
    def current(self) -> Link | None:
        """The page that this one is, or belongs to."""
        return next((link for link in self.links if link.is_current), None)


def to_review(place: Place) -> int:
    """The labels that this person could review now."""
    return review_queue.count_waiting(place.project, reviewer=place.member)


def returned(place: Place) -> int:
    """This person's returned labels."""
    if place.member is None:
        return 0
    mine = Assignment.objects.filter(project=place.project, annotator=place.member).returned()
    return mine[: MOST_COUNTED + 1].count()


PAGES = [
    Page("annotate:project", _("Overview"), "o", Role.ADMIN),
    Page("annotate:my-work", _("My work"), "w", Role.ANNOTATOR, waiting=returned),
    Page("annotate:guidelines", _("Guidelines"), "l", Role.ANNOTATOR),
    Page("annotate:reviews", _("Review"), "v", Role.REVIEWER, also=("escalations",), waiting=to_review),
    Page("annotate:prompts", _("Prompts"), "t", Role.ADMIN),
    Page("training:rounds", _("Rounds"), "r", Role.ADMIN, also=("runs",)),
    Page("training:models", _("Models"), "m", Role.ADMIN),
    Page("annotate:members", _("Members"), "e", Role.ADMIN),
    Page("annotate:settings", _("Settings"), "s", Role.ADMIN, also=("export",)),
]


def build(request: SignedInRequest) -> Bar:
    """The bar of the page that answers `request`; the number of queries is constant."""
    projects, members = _projects_of(request.user)
    place = _place(request, projects, members)
    choices = [
        _choice(number, project, _role(request.user, members.get(project.pk)), place)
        for number, project in enumerate(projects[:MOST_PROJECTS], 1)
    ]
    return Bar(
        project=place.project if place else None,
        choices=choices,
        has_more=len(projects) > MOST_PROJECTS,
        links=_links(request.path, place, has_several=len(projects) > 1) if place else [_home(request.path, None)],
    )


def _projects_of(user: User) -> tuple[list[Project], dict[int, Member]]:
    """The projects that `user` may open, by their names, and the memberships by the ids of their projects."""
    mine = user.memberships.active().select_related("project").order_by("project__name")[: MOST_PROJECTS + 1]
    members = {member.project_id: member for member in mine}
    if user.is_superuser:
        return list(Project.objects.for_user(user).order_by("name")[: MOST_PROJECTS + 1]), members
    return [member.project for member in members.values()], members


def _place(request: SignedInRequest, projects: list[Project], members: dict[int, Member]) -> Place | None:
    """Where `permissions.enter` has led, else the only project there is."""
    entered = getattr(request, "project", None)
    if entered is not None:
        return Place(project=entered, member=request.member, role=request.role)  # type: ignore[attr-defined]  # by enter
    if len(projects) != 1:
        return None
    member = members.get(projects[0].pk)
    return Place(project=projects[0], member=member, role=_role(request.user, member))


def _role(user: User, member: Member | None) -> Role:
    return Role.ADMIN if user.is_superuser or member is None else Role(member.role)


def _choice(number: int, project: Project, role: Role, place: Place | None) -> Choice:
    return Choice(
        project.name,
        reverse("annotate:project", args=[project.slug]) if role == Role.ADMIN else _home_of(project),
        str(number) if number <= SWITCHED_BY_KEY else "",
        bool(place and place.project == project),
    )


def _links(path: str, place: Place, *, has_several: bool) -> list[Link]:
    allowed = [page for page in PAGES if place.role in Role.at_least(page.role)]
    links = [link for page in allowed if (link := _link(page, path, place))]
    home = _home(path, place.project if has_several else None)
    # The overview is an admin's first page; everyone else starts at home.
    return [*links[:1], home, *links[1:]] if place.role == Role.ADMIN else [home, *links]


def _link(page: Page, path: str, place: Place) -> Link | None:
    slug = place.project.slug
    try:
        address = reverse(page.address, args=[slug])
    except NoReverseMatch:
        return None
    start = reverse("annotate:project", args=[slug])
    folders = (address, *(f"{start}{folder}/" for folder in page.also))
    is_current = path == address if address == start else path.startswith(folders)
    return Link(address, page.text, page.key, _number(page.waiting(place)), is_current)


def _home(path: str, project: Project | None) -> Link:
    home = reverse("annotate:home")
    return Link(_home_of(project) if project else home, _("Home"), "h", "", path == home)


def _home_of(project: Project) -> str:
    return f"{reverse('annotate:home')}?project={project.slug}"


def _number(waiting: int) -> str:
    return f"{MOST_COUNTED}+" if waiting > MOST_COUNTED else str(waiting or "")
