"""Answers to what no view answers: problem JSON below /api/ (RFC 9457), a page elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.utils.translation import gettext_lazy as _
from django.views import defaults

from annotate.api.problems import MEDIA_TYPE, problem_body

API = "/api/"
Page = Callable[..., HttpResponseBase]


def handler(page: Page, status: HTTPStatus, detail: Any) -> Page:
    """`page` for people, and the problem `status` with `detail` for programs."""

    def answer(request: HttpRequest, exception: Exception | None = None) -> HttpResponseBase:
        if request.path.startswith(API):
            return problem_document(status, str(detail))
        return page(request) if exception is None else page(request, exception)

    return answer


def problem_document(status: HTTPStatus, detail: str) -> JsonResponse:
    """A problem where no endpoint was reached that could have stated it."""
    return JsonResponse(problem_body(status, detail), status=status, content_type=MEDIA_TYPE)


bad_request = handler(defaults.bad_request, HTTPStatus.BAD_REQUEST, _("This request cannot be read."))
not_allowed = handler(defaults.permission_denied, HTTPStatus.FORBIDDEN, _("This is not allowed."))
not_found = handler(defaults.page_not_found, HTTPStatus.NOT_FOUND, _("There is no such address in this API."))
server_error = handler(
    defaults.server_error,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    _("Something went wrong on the server. Nothing is lost: try again in a moment."),
)
