"""What every address of the API has in common: scopes, sizes, a fixed list of parameters, and whose project it is.

A token's scopes limit the program; the member's role limits the person. Both are asked.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, ClassVar, Literal

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from drf_spectacular.openapi import AutoSchema
from rest_framework import serializers
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from annotate.api.parsers import JSONParser
from annotate.api.problems import MEDIA_TYPE, Problem
from annotate.models import ApiToken, Member, Project, Role, User
from annotate.services.text import is_id


class ProblemDocument(serializers.Serializer[Any]):
    """Problem JSON, as the OpenAPI document shows it."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    errors = serializers.DictField(required=False)  # type: ignore[assignment]  # the document's word for it


class ProblemSchema(AutoSchema):
    """Every operation may respond with a problem."""

    def _get_response_bodies(self, direction: Literal["request", "response"] = "response") -> dict[str, Any]:
        bodies: dict[str, Any] = super()._get_response_bodies(direction)
        problem = self._get_response_for_code(ProblemDocument, "default", media_types=[MEDIA_TYPE], direction=direction)
        return bodies | {"default": problem}


class Pages(CursorPagination):
    """Newest first; a page's address says where it starts, so that new rows shift nothing."""

    page_size = 50
    ordering = "-pk"

    def decode_cursor(self, request: Request) -> Cursor | None:
        """What `?cursor=` says. Raises NotFound, also for a position that is no id: lists are ordered by id."""
        cursor = super().decode_cursor(request)
        if cursor and cursor.position is not None and not is_id(str(cursor.position)):
            raise NotFound(self.invalid_cursor_message)
        return cursor


class PageSerializer(serializers.Serializer[Any]):
    """What the OpenAPI document says of every page; a subclass names the `results`."""

    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)


class Endpoint(APIView):
    """An address of the API. Reading needs the scope `read`; everything else needs `scope`."""

    scope: ClassVar[str] = ApiToken.Scope.ANNOTATE
    parameters: ClassVar[tuple[str, ...]] = ()  # what may stand behind the question mark
    parser_classes = [JSONParser]
    schema = ProblemSchema()

    @property
    def largest_body(self) -> int:
        """In bytes."""
        return int(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        needed = ApiToken.Scope.READ if request.method in ("GET", "HEAD", "OPTIONS") else self.scope
        if needed not in request.auth.scopes:  # type: ignore[union-attr]  # IsAuthenticated has passed
            raise PermissionDenied(_("The token does not have the scope “%s”.") % needed)
        if unknown := sorted(set(request.query_params) - set(self.parameters)):
            raise ValidationError({name: [_("Unknown parameter.")] for name in unknown})
        if int(request.META.get("CONTENT_LENGTH") or 0) > self.largest_body:
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _("The request body is too large. Send it in parts."))

    @property
    def user(self) -> User:
        """Who calls."""
        assert isinstance(self.request.user, User)  # IsAuthenticated has passed
        return self.request.user

    def project(self, slug: str, *, role: str = Role.ANNOTATOR) -> Project:
        """The project at `slug`: 404 for outsiders, 403 for a role below `role`; site admins pass."""
        project, _member = self._entered(slug, role)
        return project

    def member(self, slug: str) -> Member:
        """The caller as a member of the project at `slug`; site admins who are not members may read, but not label."""
        _project, member = self._entered(slug, Role.ANNOTATOR)
        if member is None:
            raise PermissionDenied(_("Only project members can label."))
        return member

    def _entered(self, slug: str, role: str) -> tuple[Project, Member | None]:
        project = get_object_or_404(Project.objects.for_user(self.user), slug=slug)
        member = project.members.active().filter(user=self.user).first()
        if not (self.user.is_superuser or (member and member.may(role))):
            raise PermissionDenied
        return project, member

    def valid(self, serializer: type[serializers.Serializer[Any]]) -> dict[str, Any]:
        """The request's body as `serializer` reads it, every field of it. Raises ValidationError."""
        bound = serializer(data=self.request.data)
        bound.is_valid(raise_exception=True)
        if unknown := sorted(set(self.request.data) - set(bound.fields)):
            raise ValidationError({name: [_("Unknown field.")] for name in unknown})
        return dict(bound.validated_data)

    def page(self, rows: QuerySet[Any], serializer: type[serializers.BaseSerializer[Any]], **context: Any) -> Response:
        """One page of `rows`; an Endpoint that lists names `cursor` among its parameters."""
        pages = Pages()
        shown = serializer(pages.paginate_queryset(rows, self.request), many=True, context=context)
        return pages.get_paginated_response(shown.data)
