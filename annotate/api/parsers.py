"""Request bodies: JSON, and files of any size that an import may have."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from http import HTTPStatus
from typing import IO, Any

from django.conf import settings
from django.http import UnreadablePostError
from django.utils.translation import gettext as _
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser
from rest_framework.parsers import JSONParser as RestJSONParser

from annotate.api.problems import Problem
from annotate.services.text import json_depth

CHUNK = 1 << 20  # bytes
DEPTH_LIMIT = 50  # levels of lists and objects; a slate whose prompt has metadata needs about half of them
LARGEST_MB = settings.LARGEST_IMPORT_MB["annotate-api:prompts"]


class JSONParser(RestJSONParser):
    """JSON whose nesting cannot exhaust the stack, neither here nor where it is walked and written later."""

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        try:
            body = super().parse(stream, media_type, parser_context)
        except RecursionError:
            raise _too_deep() from None
        if json_depth(body) > DEPTH_LIMIT:
            raise _too_deep()
        return body


class SpoolingParser(BaseParser):
    """A body as a file on disk, of at most LARGEST_MB: what is large is not held in memory, and can be read twice."""

    media_type = "application/json"

    def parse(  # type: ignore[override]  # a file is what the service reads
        self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> IO[bytes]:
        file = tempfile.TemporaryFile(dir=settings.SPOOL_DIR)  # noqa: SIM115  (the endpoint closes it)
        try:
            _copy(stream, file, announced=int(stream.META.get("CONTENT_LENGTH") or 0))
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return file


class SpoolingNDJSONParser(SpoolingParser):
    media_type = "application/x-ndjson"


class SpoolingJSONLinesParser(SpoolingParser):
    media_type = "application/jsonl"


def _too_deep() -> ParseError:
    return ParseError(_("The JSON is nested too deeply; at most %d levels are allowed.") % DEPTH_LIMIT)


def _copy(stream: Any, file: IO[bytes], *, announced: int) -> None:
    size = 0
    try:
        while chunk := stream.read(CHUNK):
            size += len(chunk)
            if size > LARGEST_MB * 1024 * 1024:
                raise Problem(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    _("The request body is larger than %d MB. Send it in parts.") % LARGEST_MB,
                )
            file.write(chunk)
    except UnreadablePostError:
        announced = size + 1
    if size < announced:
        raise ParseError(_("The request body is incomplete. Nothing was imported; send it again."))
