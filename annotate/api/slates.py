"""Slates come in: completions that were made elsewhere, to be ranked here."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.api.endpoints import Endpoint
from annotate.api.prompts import PromptSerializer
from annotate.models import ApiToken, FinishReason, Prompt, Role
from annotate.services import slates
from annotate.services.importing.reports import KEYS_LISTED, controls_in_words, unnamed_in_words
from annotate.services.slates import NewCompletion
from annotate.services.text import control_count


class CompletionSerializer(serializers.Serializer[Any]):
    text = serializers.CharField(allow_blank=True, trim_whitespace=False)
    finish_reason = serializers.ChoiceField(choices=FinishReason.choices, default=FinishReason.STOP)


@extend_schema_field(PromptSerializer)
class PromptField(serializers.JSONField):
    """A prompt as it came: the service reads it by its own rules, which are those of every import."""


class NewSlateSerializer(serializers.Serializer[Any]):
    prompt = PromptField(required=False)
    prompt_external_id = serializers.CharField(required=False)
    completions = CompletionSerializer(many=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("prompt" in attrs) == ("prompt_external_id" in attrs):
            raise serializers.ValidationError(_("Give either “prompt” or “prompt_external_id”."))
        return attrs


class AddedSlateSerializer(serializers.Serializer[Any]):
    slate = serializers.IntegerField()
    completions = serializers.ListField(child=serializers.IntegerField(), help_text="Ids, in the order given.")
    prompt = serializers.IntegerField()
    notes = serializers.ListField(
        child=serializers.CharField(),
        help_text="What was ignored or changed, and which prompt it nearly duplicates.",
    )


class Slates(Endpoint):
    scope: ClassVar[str] = ApiToken.Scope.ADMIN

    @extend_schema(request=NewSlateSerializer, responses={201: AddedSlateSerializer})
    def post(self, request: Request, slug: str) -> Response:
        """Add two to nine completions of one prompt for people to rank."""
        project = self.project(slug, role=Role.ADMIN)
        data = self.valid(NewSlateSerializer)
        completions = [NewCompletion(**completion) for completion in data["completions"]]
        as_sent: Any = request.data
        notes: list[str] = []
        if "prompt_external_id" in data:
            prompts = Prompt.objects.for_user(self.user).filter(project=project)
            prompt = get_object_or_404(prompts, external_id=data["prompt_external_id"])
            added = slates.add(project, prompt=prompt, completions=completions, actor=self.user)
        else:
            added, notes = slates.add_with_prompt(
                project, record=data.get("prompt"), completions=completions, actor=self.user
            )
        body = {
            "slate": added.slate.pk,
            "completions": [completion.pk for completion in added.completions],
            "prompt": added.slate.prompt_id,
            "notes": notes + _notes(completions) + _ignored(as_sent["completions"]),
        }
        return Response(body, status=status.HTTP_201_CREATED)


def _notes(completions: list[NewCompletion]) -> list[str]:
    count = sum(control_count(completion.text) for completion in completions)
    return [_("In the completions: %s") % controls_in_words(count)] if count else []


def _ignored(sent: list[dict[str, Any]]) -> list[str]:
    """Which keys of the completions were ignored, in words."""
    known = set(CompletionSerializer().fields)
    keys = Counter(key for completion in sent for key in completion if key not in known)
    notes = [
        ngettext(
            "“%(key)s” was ignored in %(count)d completion: a completion has only text and finish_reason.",
            "“%(key)s” was ignored in %(count)d completions: a completion has only text and finish_reason.",
            count,
        )
        % {"key": key[:100], "count": count}
        for key, count in sorted(keys.items())[:KEYS_LISTED]
    ]
    if more := len(keys) - len(notes):
        notes.append(unnamed_in_words(more))
    return notes
