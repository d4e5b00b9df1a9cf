"""Compressing pages. Only HTML is: a packed model, a CSV or a stream leaves as it is, and static files are stored
compressed.

The length of a compressed page tells an eavesdropper who can put text of their own on it what else it holds (BREACH).
The CSRF token is masked differently in every page, and Django adds a random number of bytes. A page that shows a secret
in clear, such as a one-time link or an API token, is not compressed at all.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.middleware.gzip import GZipMiddleware
from django.views.decorators.cache import never_cache

from annotate.permissions import View


class CompressedPages(GZipMiddleware):
    """Compress HTML for browsers that take it, but no page that shows a secret."""

    def process_response(self, request: HttpRequest, response: Any) -> Any:
        is_page = not response.streaming and response.get("Content-Type", "").startswith("text/html")
        if not is_page or hasattr(response, "shows_secret"):
            return response
        return super().process_response(request, response)


def shows_secret(view: View) -> View:
    """A view whose answer holds a secret in clear: kept by no cache, and not compressed."""

    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> HttpResponse:
        response = never_cache(view)(*args, **kwargs)
        response.shows_secret = True  # type: ignore[attr-defined]
        return response

    return guarded
