"""Who may open a page: one decorator for a project's pages and one for the site's. Rows are guarded by `for_user()`.

The request that such a page gets is described here, too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404

from annotate.models import Member, Project, Role, User

if TYPE_CHECKING:
    from django_htmx.middleware import HtmxDetails

View = Callable[..., HttpResponse]


class SignedInRequest(HttpRequest):
    """A request behind `login_required`, as the type checker should see it."""

    user: User
    htmx: HtmxDetails


class ProjectRequest(SignedInRequest):
    """A request for a page of a project, as `enter` leaves it."""

    project: Project
    member: Member | None  # None: a site admin who is no member; may look and steer, but not label
    role: Role  # what this person may do here: a member's role, or admin for a site admin


def enter(request: ProjectRequest, project: Project, member: Member | None) -> None:
    """Make `project`, in which this person is `member`, the one that the page and its links are about."""
    request.project, request.member = project, member
    request.role = Role.ADMIN if request.user.is_superuser or member is None else Role(member.role)


def role_required(role: Role) -> Callable[[View], View]:
    """Open a page under `/projects/<slug>/` to people whose role contains `role`.

    The address's `slug` becomes `request.project`, `.member` and `.role`, and is not handed to the view. Whoever
    is not signed in goes to the login page; outsiders get 404, members whose role is too low 403. Site admins pass as
    admins.
    """

    def decorator(view: View) -> View:
        @wraps(view)
        @login_required
        def guarded(request: ProjectRequest, slug: str, *args: Any, **kwargs: Any) -> HttpResponse:
            project = get_object_or_404(Project.objects.for_user(request.user), slug=slug)
            enter(request, project, request.user.memberships.active().filter(project=project).first())
            if request.role not in Role.at_least(role):
                raise PermissionDenied
            return view(request, *args, **kwargs)

        return guarded

    return decorator


def site_admin_required(view: View) -> View:
    """Open a page to site admins; everybody else who is signed in gets 403."""

    @wraps(view)
    @login_required
    def guarded(request: SignedInRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not request.user.is_superuser:
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return guarded
