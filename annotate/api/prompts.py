"""Prompts come in: a JSON list, or a line each."""

from __future__ import annotations

import io
from typing import IO, Any, ClassVar

from django.utils.http import parse_header_parameters
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.api.endpoints import Endpoint
from annotate.api.parsers import LARGEST_MB, SpoolingJSONLinesParser, SpoolingNDJSONParser, SpoolingParser
from annotate.models import ApiToken, Role
from annotate.services import prompts
from annotate.services.importing import conversations, sources
from annotate.services.importing.encodings import NotUTF8
from annotate.services.importing.reports import Imported

LINES = {"type": "string", "description": "One prompt per line."}


class TurnSerializer(serializers.Serializer[Any]):
    role = serializers.ChoiceField(choices=conversations.ROLES)
    content = serializers.CharField()


class PromptSerializer(serializers.Serializer[Any]):
    """How the OpenAPI document shows a prompt; annotate.services.importing.conversations reads it."""

    messages = TurnSerializer(many=True, required=False)
    text = serializers.CharField(required=False)
    external_id = serializers.CharField(required=False)
    group = serializers.CharField(required=False)
    metadata = serializers.DictField(required=False)


class RejectedSerializer(serializers.Serializer[Any]):
    line = serializers.IntegerField(help_text="In a list: the number of the item, from 1.")
    error = serializers.CharField()


class NearDuplicateSerializer(serializers.Serializer[Any]):
    line = serializers.IntegerField()
    prompt = serializers.IntegerField(help_text="The prompt that was added.")
    like = serializers.IntegerField(help_text="The earlier prompt it nearly duplicates.")
    note = serializers.CharField()


class IgnoredSerializer(serializers.Serializer[Any]):
    where = serializers.ChoiceField(choices=["prompt", "turn"])
    key = serializers.CharField()
    count = serializers.IntegerField()


class ImportedSerializer(serializers.Serializer[Any]):
    created = serializers.IntegerField()
    existing = serializers.IntegerField()
    withdrawn = serializers.IntegerField(help_text="How many of the existing prompts are withdrawn.")
    rejected = RejectedSerializer(many=True, help_text="The first 100.")
    rejected_count = serializers.IntegerField()
    stopped = serializers.CharField(
        allow_blank=True, help_text="Why the rest was not read; empty if everything was read."
    )
    train = serializers.IntegerField(help_text="How many of the created prompts are for training.")
    heldout = serializers.IntegerField(help_text="How many of the created prompts are held out.")
    near_duplicates = NearDuplicateSerializer(many=True, help_text="The first 100; they were added.")
    near_duplicate_count = serializers.IntegerField()
    ignored = serializers.SerializerMethodField()
    empty_system_turns = serializers.IntegerField(help_text="How many empty system turns were left out.")
    control_characters = serializers.IntegerField(
        help_text="How many control characters were replaced with white space."
    )
    repaired_metadata = serializers.IntegerField(
        help_text="How many prompts had metadata that had to be changed before it could be stored."
    )
    changes = serializers.ListField(child=serializers.CharField(), help_text="What was ignored or changed, in words.")
    remarks = serializers.ListField(child=serializers.CharField(), help_text="Remarks on these prompts.")

    @extend_schema_field(IgnoredSerializer(many=True))
    def get_ignored(self, imported: Imported) -> list[dict[str, Any]]:
        return [{"where": where, "key": key, "count": count} for (where, key), count in imported.ignored.items()]


class Prompts(Endpoint):
    scope: ClassVar[str] = ApiToken.Scope.ADMIN
    parser_classes = [SpoolingParser, SpoolingNDJSONParser, SpoolingJSONLinesParser]

    @property
    def largest_body(self) -> int:
        return LARGEST_MB * 1024 * 1024

    @extend_schema(
        request={
            "application/json": PromptSerializer(many=True),
            "application/x-ndjson": LINES,
            "application/jsonl": LINES,
        },
        responses=ImportedSerializer,
    )
    def post(self, request: Request, slug: str) -> Response:
        """Add prompts. Valid ones are added, invalid ones reported by number; existing ones are not added again."""
        project = self.project(slug, role=Role.ADMIN)
        body: IO[bytes] = request.data or io.BytesIO()  # type: ignore[assignment]  # the parsers' file, if there is a body
        with body:
            try:
                source = sources.read(body)
            except (sources.Unreadable, NotUTF8) as error:
                raise ParseError(str(error)) from None
            # Compared as a whole: “application/jsonl” begins with the same letters.
            media_type, _parameters = parse_header_parameters(request.content_type)
            if not source.is_list and media_type == SpoolingParser.media_type:
                raise ParseError(_("The body must be a list of prompts."))
            return Response(ImportedSerializer(prompts.add(project, source.records, actor=self.user)).data)
