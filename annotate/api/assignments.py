"""Work is handed out, drafted and skipped."""

from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.api.endpoints import Endpoint
from annotate.api.prompts import TurnSerializer
from annotate.models import Assignment, Completion, Kind, User
from annotate.services import work
from annotate.services.text import is_id


class ShownCompletionSerializer(serializers.ModelSerializer[Completion]):
    class Meta:
        model = Completion
        fields = ("id", "text")


class AssignmentSerializer(serializers.ModelSerializer[Assignment]):
    messages = TurnSerializer(source="item.subject_prompt.messages", many=True)
    completions = serializers.SerializerMethodField(help_text="To rank, in this person's own order.")

    class Meta:
        model = Assignment
        fields = ("id", "kind", "status", "lease_until", "draft", "draft_version", "messages", "completions")

    @extend_schema_field(ShownCompletionSerializer(many=True))
    def get_completions(self, assignment: Assignment) -> list[Any]:
        by_id = Completion.objects.in_bulk(assignment.card_order)
        return list(ShownCompletionSerializer([by_id[pk] for pk in assignment.card_order], many=True).data)


class KindSerializer(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(choices=Kind.choices)


class ClaimSerializer(serializers.Serializer[Any]):
    assignment = AssignmentSerializer(allow_null=True)
    reason = serializers.CharField(allow_blank=True)


class DraftSerializer(serializers.Serializer[Any]):
    draft = serializers.JSONField()
    draft_version = serializers.IntegerField(min_value=0, max_value=2**31 - 2)

    def validate_draft(self, draft: Any) -> dict[str, Any]:
        """Only what the pages can show again, since they trust a stored draft."""
        if not isinstance(draft, dict):
            raise serializers.ValidationError(_("A draft must be a JSON object."))
        if not all(isinstance(draft.get(name, ""), str) for name in ("text", "note")):
            raise serializers.ValidationError(_("The text and note of a draft must be strings."))
        if not _are_places(draft.get("places", {})):
            raise serializers.ValidationError(_("The places of a draft must map completion ids to numbers or null."))
        return draft


def _are_places(places: Any) -> bool:
    return isinstance(places, dict) and all(
        is_id(key) and (place is None or type(place) is int) for key, place in places.items()
    )


class SavedDraftSerializer(serializers.ModelSerializer[Assignment]):
    class Meta:
        model = Assignment
        fields = ("status", "draft_version", "draft_saved_at", "lease_until")


class SkipSerializer(serializers.Serializer[Any]):
    reason = serializers.CharField()


class Claim(Endpoint):
    @extend_schema(request=KindSerializer, responses=ClaimSerializer)
    def post(self, request: Request, slug: str) -> Response:
        """Assign the next item, or return the one you already have. Without an item, `reason` says why."""
        member = self.member(slug)
        claim = work.claim(member.project, annotator=member, kind=self.valid(KindSerializer)["kind"])
        return Response(ClaimSerializer(claim).data)


class Draft(Endpoint):
    @extend_schema(request=DraftSerializer, responses=SavedDraftSerializer)
    def put(self, request: Request, pk: int) -> Response:
        """Save a draft based on `draft_version`. If that is outdated, 409 with the stored draft."""
        assignment, data = mine(self.user, pk), self.valid(DraftSerializer)
        stored = work.save_draft(assignment, draft=data["draft"], version=data["draft_version"])
        return Response(SavedDraftSerializer(stored).data)


class Skip(Endpoint):
    @extend_schema(request=SkipSerializer, responses={204: None})
    def post(self, request: Request, pk: int) -> Response:
        """Skip the item, with a reason."""
        work.skip(mine(self.user, pk), reason=self.valid(SkipSerializer)["reason"])
        return Response(status=status.HTTP_204_NO_CONTENT)


def mine(user: User, pk: int) -> Assignment:
    """The caller's own assignment, in any state. Raises Http404."""
    assignments = Assignment.objects.for_user(user).select_related("item__prompt", "item__slate", "annotator")
    return get_object_or_404(assignments, pk=pk)
