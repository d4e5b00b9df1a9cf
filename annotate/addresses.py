"""What an address does when somebody opens it that is no page: a bookmark, a link in a mail, the way back after signing
in. It leads to its page. Both decorators stand below those that say who may come."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect

View = Callable[..., HttpResponse]
READS = ("GET", "HEAD")


def posts_from(page: str, *values: str) -> Callable[[View], View]:
    """A view that takes what a form of `page` sends; `values` are the parts of the address that both have.

    Reading it leads to the page, other methods than POST are refused.
    """

    def decorator(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if request.method in READS:
                return _to(page, request, values)
            if request.method != "POST":
                return HttpResponseNotAllowed(["POST"])
            return view(request, *args, **kwargs)

        return guarded

    return decorator


def fragment_of(page: str, *values: str) -> Callable[[View], View]:
    """A view that renders a part of `page`; `values` as in posts_from. Read by itself, it leads to the page."""

    def decorator(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if request.method in READS and not request.htmx:  # type: ignore[attr-defined]  # as django_htmx sets it
                return _to(page, request, values)
            return view(request, *args, **kwargs)

        return guarded

    return decorator


def _to(page: str, request: HttpRequest, values: Iterable[str]) -> HttpResponse:
    assert request.resolver_match is not None  # or no view had been called
    return redirect(page, **{name: request.resolver_match.kwargs[name] for name in values})
