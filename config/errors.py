"""Answers to what no view answers: problem JSON below /api/ (RFC 9457), a page elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.core.exceptions import DisallowedHost, RequestDataTooBig
from django.core.handlers.exception import response_for_exception
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.middleware.security import SecurityMiddleware
from django.shortcuts import render
from django.utils.translation import gettext_lazy as _
from django.views import defaults

from annotate.api.problems import MEDIA_TYPE, problem_body
from config.bodies import REFUSAL

API = "/api/"
Page = Callable[..., HttpResponseBase]


def handler(page: Page, status: HTTPStatus, detail: Any) -> Page:
    """`page` for people, and for programs the problem that no endpoint was reached to state."""

    def answer(request: HttpRequest, exception: Exception | None = None) -> HttpResponseBase:
        if request.path.startswith(API):
            return JsonResponse(problem_body(status, str(detail)), status=status, content_type=MEDIA_TYPE)
        return page(request) if exception is None else page(request, exception)

    return answer


def refused(status: HTTPStatus, title: Any, detail: Any) -> Page:
    """A refusal that one sentence explains."""

    def page(request: HttpRequest, exception: Exception | None = None) -> HttpResponseBase:
        return render(request, "refused.html", {"title": title, "detail": detail}, status=status)

    return handler(page, status, detail)


unreadable = refused(
    HTTPStatus.BAD_REQUEST,
    _("Bad request"),
    _("The server could not understand this request. Nothing was changed. Reload the page and try again."),
)
not_allowed = handler(defaults.permission_denied, HTTPStatus.FORBIDDEN, _("This is not allowed."))
not_found = handler(defaults.page_not_found, HTTPStatus.NOT_FOUND, _("This API has no such address."))
server_error = handler(
    defaults.server_error,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    _("Something went wrong on the server. Nothing is lost. Try again in a moment."),
)
REFUSALS: dict[HTTPStatus, Page] = {
    HTTPStatus.REQUEST_TIMEOUT: refused(
        HTTPStatus.REQUEST_TIMEOUT,
        _("Request timed out"),
        _("The upload did not finish in time. Nothing was changed. Try again, or send it in smaller parts."),
    ),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: refused(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        _("Request too large"),
        _("The request is larger than the server accepts. Nothing was changed. Send it in smaller parts."),
    ),
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: refused(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        _("Text must be UTF-8"),
        _("The request declares another encoding. Nothing was changed. Send it as UTF-8."),
    ),
    HTTPStatus.INSUFFICIENT_STORAGE: refused(
        HTTPStatus.INSUFFICIENT_STORAGE,
        _("The server is out of disk space"),
        _(
            "The upload could not be stored because the disk is full. Nothing was changed. "
            "Tell the person who runs this server."
        ),
    ),
    HTTPStatus.SERVICE_UNAVAILABLE: refused(
        HTTPStatus.SERVICE_UNAVAILABLE,
        _("Too many uploads"),
        _("Other people are uploading large files right now. Nothing was changed. Try again in a minute."),
    ),
}


LARGEST_TEXT_MB = settings.DATA_UPLOAD_MAX_MEMORY_SIZE // 2**20
too_much_text = refused(
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    _("Text too long"),
    _("A form can contain up to %d MB of text. Nothing was changed. Send it in smaller parts, or upload a file.")
    % LARGEST_TEXT_MB,
)


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponseBase:
    """What Django refuses to read."""
    return too_much_text(request) if isinstance(exception, RequestDataTooBig) else unreadable(request)


def refusals(get_response: Page) -> Page:
    """Answer what was refused before a view could see it; as a middleware, so that the answer has every header."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        status = request.META.get(REFUSAL)
        return get_response(request) if status is None else REFUSALS[status](request)

    return middleware


def known_hosts(get_response: Page) -> Page:
    """Refuse a request for a host that is not ours before Django's redirect to https trips over it, without headers."""
    security = SecurityMiddleware(get_response)

    def middleware(request: HttpRequest) -> HttpResponseBase:
        try:
            request.get_host()
        except DisallowedHost as error:
            return security.process_response(request, response_for_exception(request, error))
        return get_response(request)

    return middleware
