"""Prompts come in: a JSON list, or a line each."""

from __future__ import annotations

from typing import Any, ClassVar

from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.api.endpoints import Endpoint
from annotate.api.parsers import JSONParser, NDJSONParser
from annotate.models import ApiToken, Role
from annotate.services import prompts


class TurnSerializer(serializers.Serializer[Any]):
    role = serializers.ChoiceField(choices=prompts.ROLES)
    content = serializers.CharField()


class PromptSerializer(serializers.Serializer[Any]):
    """How the OpenAPI document shows a prompt; annotate.services.prompts reads it, line by line."""

    messages = TurnSerializer(many=True, required=False)
    text = serializers.CharField(required=False)
    external_id = serializers.CharField(required=False)
    group = serializers.CharField(required=False)
    metadata = serializers.DictField(required=False)


class RejectedSerializer(serializers.Serializer[Any]):
    line = serializers.IntegerField()
    error = serializers.CharField()


class ImportedSerializer(serializers.Serializer[Any]):
    created = serializers.IntegerField()
    existing = serializers.IntegerField()
    rejected = RejectedSerializer(many=True)


class Prompts(Endpoint):
    scope: ClassVar[str] = ApiToken.Scope.ADMIN
    parser_classes = [JSONParser, NDJSONParser]

    @extend_schema(
        request={
            "application/json": PromptSerializer(many=True),
            "application/x-ndjson": {"type": "string", "description": "A prompt a line."},
        },
        responses=ImportedSerializer,
    )
    def post(self, request: Request, slug: str) -> Response:
        """Add prompts. The good ones are kept, bad ones reported by number; sending them again adds nothing."""
        project = self.project(slug, role=Role.ADMIN)
        imported = prompts.add(project, _records(request.data))
        return Response(ImportedSerializer(imported).data)


def _records(data: Any) -> list[prompts.Record]:
    if isinstance(data, bytes):
        return prompts.records_from_jsonl(data)
    if not isinstance(data, list):
        raise ParseError(_("The body must be a list of prompts."))
    return prompts.records_from_list(data)
