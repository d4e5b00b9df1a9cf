"""Submitting demonstrations and rankings."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.api.assignments import mine
from annotate.api.endpoints import Endpoint
from annotate.api.problems import Problem
from annotate.models import Assignment, Kind
from annotate.services import demonstrations, rankings


class DemonstrationSerializer(serializers.Serializer[Any]):
    submission_id = serializers.UUIDField()
    text = serializers.CharField(trim_whitespace=False)
    flags = serializers.ListField(child=serializers.CharField(), default=list)
    note = serializers.CharField(allow_blank=True, default="", trim_whitespace=False)


class RankingSerializer(serializers.Serializer[Any]):
    """`places`, `ratings` and `flags` are by completion id. Places are stored without gaps: 4 4 2 2 is 2 2 1 1."""

    submission_id = serializers.UUIDField()
    places = serializers.DictField(child=serializers.IntegerField(allow_null=True))
    ratings = serializers.DictField(child=serializers.IntegerField(), default=dict)
    flags = serializers.DictField(child=serializers.ListField(child=serializers.CharField()), default=dict)
    note = serializers.CharField(allow_blank=True, default="", trim_whitespace=False)

    def validate_places(self, values: dict[str, int | None]) -> dict[int, int | None]:
        return _by_completion(values)

    def validate_ratings(self, values: dict[str, int]) -> dict[int, int]:
        return _by_completion(values)

    def validate_flags(self, values: dict[str, list[str]]) -> dict[int, list[str]]:
        return _by_completion(values)


class LabelSerializer(serializers.Serializer[Any]):
    """A stored label."""

    id = serializers.IntegerField()
    submission_id = serializers.UUIDField()
    created_at = serializers.DateTimeField()


class Demonstration(Endpoint):
    @extend_schema(request=DemonstrationSerializer, responses=LabelSerializer)
    def post(self, request: Request, pk: int) -> Response:
        """Submit an answer. The same submission id returns the stored one; with different contents it is 409."""
        assignment = _of_kind(mine(self.user, pk), Kind.DEMONSTRATION)
        return Response(LabelSerializer(demonstrations.submit(assignment, **self.valid(DemonstrationSerializer))).data)


class Ranking(Endpoint):
    @extend_schema(request=RankingSerializer, responses=LabelSerializer)
    def post(self, request: Request, pk: int) -> Response:
        """Submit a ranking. The same submission id returns the stored one; with different contents it is 409."""
        assignment = _of_kind(mine(self.user, pk), Kind.RANKING)
        return Response(LabelSerializer(rankings.submit(assignment, **self.valid(RankingSerializer))).data)


def _of_kind(assignment: Assignment, kind: Kind) -> Assignment:
    if assignment.kind != kind:
        raise Problem(HTTPStatus.CONFLICT, _("This assignment is of the other kind."))
    return assignment


def _by_completion(values: dict[str, Any]) -> dict[int, Any]:
    try:
        return {int(pk): value for pk, value in values.items()}
    except ValueError:
        raise serializers.ValidationError(_("The keys must be completion ids.")) from None
