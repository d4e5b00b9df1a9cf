"""Labels go out: a file of one kind, sent while it is made."""

from __future__ import annotations

from typing import Any, ClassVar

from django.http import Http404, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request

from annotate.api.endpoints import Endpoint
from annotate.forms.exports import ExportForm
from annotate.models import Role
from annotate.services.exporting import exports
from annotate.services.exporting.formats import FORMATS
from annotate.services.exporting.selection import Labels


class OneRenderer(BaseContentNegotiation):
    """`format` names the file here, not how the framework renders a response: errors are JSON as everywhere."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> tuple[Any, str]:
        return renderers[0], renderers[0].media_type


class Export(Endpoint):
    parameters: ClassVar[tuple[str, ...]] = ("format", "labels", "snapshot")
    http_method_names = ["get", "options"]  # HEAD would make the whole file and throw it away
    content_negotiation_class = OneRenderer

    @extend_schema(
        parameters=[
            OpenApiParameter("kind", str, OpenApiParameter.PATH, enum=list(exports.KINDS)),
            OpenApiParameter("format", str, enum=list(FORMATS), default="jsonl"),
            OpenApiParameter("labels", str, enum=Labels.values, default=Labels.CURRENT.value),
            OpenApiParameter("snapshot", int, description="The number of a round: the labels of its snapshot."),
        ],
        responses={
            (200, "application/jsonl"): OpenApiTypes.STR,
            (200, "text/csv"): OpenApiTypes.STR,
        },
    )
    def get(self, request: Request, slug: str, kind: str) -> StreamingHttpResponse:
        """Export labels, prompts or completions, one per line."""
        project = self.project(slug, role=Role.ADMIN)
        if kind not in exports.KINDS:
            raise Http404
        form = ExportForm(request.query_params, project=project)
        if not form.is_valid():
            raise ValidationError({name: [*map(str, faults)] for name, faults in form.errors.items()})
        export = form.export(kind)
        return StreamingHttpResponse(exports.start(export, actor=self.user), headers=export.headers)
