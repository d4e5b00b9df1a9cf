"""Addresses that are no page of their own lead to their page when someone opens them: a bookmark, a link in an email,
the way back after signing in. Both decorators stand below those that check permissions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import reverse

from annotate.permissions import SignedInRequest, View

READS = ("GET", "HEAD")


def posts_from(page: str, *values: str) -> Callable[[View], View]:
    """A view that takes what a form of `page` sends; `values` are the parts of the address that both have.

    Reading it leads to the page, other methods than POST are refused.
    """

    def decorator(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if request.method in READS:
                return _redirect(page, request, values)
            if request.method != "POST":
                return HttpResponseNotAllowed(["POST"])
            return view(request, *args, **kwargs)

        return guarded

    return decorator


def fragment_of(page: str, *values: str) -> Callable[[View], View]:
    """A view that renders a part of `page`; `values` as in posts_from. Read by itself, it leads to the page."""

    def decorator(view: View) -> View:
        @wraps(view)
        def guarded(request: SignedInRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if request.method in READS and not request.htmx:
                return _redirect(page, request, values)
            return view(request, *args, **kwargs)

        return guarded

    return decorator


def _redirect(page: str, request: HttpRequest, values: Iterable[str]) -> HttpResponse:
    assert request.resolver_match is not None  # or no view had been called
    path = reverse(page, kwargs={name: request.resolver_match.kwargs[name] for name in values})
    return redirect(path)
