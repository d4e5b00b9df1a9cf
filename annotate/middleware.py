"""For every page: newcomers see the welcome page first, times are in the reader's zone, and nothing a person saw can
be seen after signing out.
"""

from __future__ import annotations

from collections.abc import Callable
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.cache import add_never_cache_headers

from annotate.models import User
from annotate.permissions import View

# What a newcomer may open before entering a name; allauth's own pages are open, too.
OPEN_TO_NEWCOMERS = {"annotate:welcome", "annotate:guidelines", "annotate:account", "annotate:link", "annotate:who"}


class WelcomeFirst:
    """People who have not entered their name see the welcome page, whichever page they open."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: View, args: object, kwargs: object) -> HttpResponse | None:
        is_page = request.method in ("GET", "HEAD") and "HX-Request" not in request.headers
        match = request.resolver_match
        if not is_page or match is None or match.namespace.endswith("-api"):
            return None
        if match.view_name in OPEN_TO_NEWCOMERS or match.view_name.startswith("account_"):
            return None
        is_newcomer = isinstance(request.user, User) and request.user.welcomed_at is None
        return redirect("annotate:welcome") if is_newcomer else None


def time_zone(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Activate the signed-in person's zone for the length of a request."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if not request.user.is_authenticated:
            return get_response(request)
        try:
            zone = ZoneInfo(request.user.time_zone)
        except (ZoneInfoNotFoundError, ValueError):
            zone = ZoneInfo("UTC")
        with timezone.override(zone):
            return get_response(request)

    return middleware


def no_copies(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Let no browser keep what a signed-in person saw: after signing out, going back does not show it."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        # The API sets no user where there was no token.
        is_personal = getattr(request.user, "is_authenticated", False)
        if is_personal and not response.has_header("Cache-Control"):
            add_never_cache_headers(response)
        return response

    return middleware
