"""What goes wrong, as problem JSON (RFC 9457): `type`, `title`, `status`, `detail`, and more where it helps."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.utils.translation import gettext as _
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.response import Response
from rest_framework.views import exception_handler

from annotate.services.exporting.exports import Gone
from annotate.services.importing.conversations import BadRecord
from annotate.services.rankings import BadRanking
from annotate.services.slates import BadSlate
from annotate.services.text import BadText, repair_json
from annotate.services.work import NotHolder, OtherBody, StaleDraft

MEDIA_TYPE = "application/problem+json"
REFUSALS: dict[type[Exception], HTTPStatus] = {
    OtherBody: HTTPStatus.CONFLICT,
    NotHolder: HTTPStatus.CONFLICT,
    StaleDraft: HTTPStatus.CONFLICT,
    BadText: HTTPStatus.UNPROCESSABLE_ENTITY,
    BadRanking: HTTPStatus.UNPROCESSABLE_ENTITY,
    BadRecord: HTTPStatus.UNPROCESSABLE_ENTITY,
    BadSlate: HTTPStatus.BAD_REQUEST,
    Gone: HTTPStatus.GONE,
}


class Problem(APIException):
    """A refusal with its own status; `more` holds further members of the response."""

    def __init__(self, status: HTTPStatus, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status_code = status
        self.more = more


def problem_response(exception: Exception, context: dict[str, Any]) -> Response | None:
    """The response to `exception`; None for a defect of ours."""
    for refusal, status in REFUSALS.items():
        if isinstance(exception, refusal):
            exception = Problem(status, str(exception), **_stored_draft(exception))
    response = exception_handler(exception, context)
    if response is None:
        return None
    # A refusal may quote what was sent, and that may be what no encoder takes.
    response.data = repair_json(_body(exception, HTTPStatus(response.status_code)))
    response.content_type = MEDIA_TYPE
    return response


def _body(exception: Exception, status: HTTPStatus) -> dict[str, Any]:
    if isinstance(exception, ValidationError):
        return problem_body(status, _("Some fields are invalid.")) | {"errors": exception.detail}
    if isinstance(exception, Http404):
        return problem_body(status, _("It does not exist, or you do not have access to it."))
    if isinstance(exception, PermissionDenied):
        return problem_body(status, str(exception) or _("Your role in this project does not allow this."))
    detail = exception.detail if isinstance(exception, APIException) else exception
    return problem_body(status, str(detail)) | getattr(exception, "more", {})


def problem_body(status: HTTPStatus, detail: str) -> dict[str, Any]:
    """The members that every problem has."""
    return {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}


def _stored_draft(exception: Exception) -> dict[str, Any]:
    if not isinstance(exception, StaleDraft):
        return {}
    return {"draft": exception.stored.draft, "draft_version": exception.stored.draft_version}
