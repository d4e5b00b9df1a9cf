"""The registry of models: what there is, and which policy a project serves."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, ClassVar

from django.shortcuts import get_object_or_404
from django.urls import reverse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.api.endpoints import Endpoint, PageSerializer
from annotate.api.problems import Problem
from annotate.models import ApiToken, Role
from training.models import ModelVersion
from training.services.registry import promotions


class ModelVersionSerializer(serializers.ModelSerializer[ModelVersion]):
    parent = serializers.SlugRelatedField[ModelVersion](slug_field="name", read_only=True, allow_null=True)  # type: ignore[assignment]
    stands_on = serializers.SlugRelatedField[ModelVersion](
        slug_field="name", read_only=True, allow_null=True, help_text="The whole model that an adapter needs."
    )
    adapter_rank = serializers.IntegerField(read_only=True, allow_null=True, help_text="Null for a whole model.")
    download_page = serializers.SerializerMethodField(
        help_text="Where an admin can download the model; an adapter also merged with the model it stands on."
    )
    is_champion = serializers.SerializerMethodField()

    class Meta:
        model = ModelVersion
        fields = (
            "id",
            "name",
            "kind",
            "parent",
            "stands_on",
            "adapter_rank",
            "manifest_sha256",
            "metrics",
            "created_at",
            "is_champion",
            "download_page",
        )

    def get_download_page(self, model: ModelVersion) -> str:
        page = reverse("training:model", args=[self.context["slug"], model.pk])
        return f"{page}#download"

    def get_is_champion(self, model: ModelVersion) -> bool:
        return bool(model.pk == self.context["champion_pk"])


class ModelVersionPageSerializer(PageSerializer):
    results = ModelVersionSerializer(many=True)


class PromotionSerializer(serializers.Serializer[Any]):
    reason = serializers.CharField(max_length=1000)


class Models(Endpoint):
    parameters: ClassVar[tuple[str, ...]] = ("cursor",)

    @extend_schema(operation_id="models_list", responses=ModelVersionPageSerializer)
    def get(self, request: Request, slug: str) -> Response:
        """The models of a project, newest first."""
        project = self.project(slug, role=Role.ADMIN)
        champion = promotions.champion(project)
        rows = ModelVersion.objects.for_user(self.user).filter(project=project).select_related("parent", "stands_on")
        return self.page(rows, ModelVersionSerializer, slug=slug, champion_pk=champion.pk if champion else None)


class Promote(Endpoint):
    scope: ClassVar[str] = ApiToken.Scope.ADMIN

    @extend_schema(request=PromotionSerializer, responses=ModelVersionSerializer)
    def post(self, request: Request, slug: str, pk: int) -> Response:
        """Serve this policy from now on; going back is promoting an older one. The champion stays as it is."""
        project = self.project(slug, role=Role.ADMIN)
        model = get_object_or_404(ModelVersion.objects.for_user(self.user), project=project, pk=pk)
        reason = self.valid(PromotionSerializer)["reason"]
        try:
            promotions.promote(model, promoted_by=self.user, reason=reason)
        except promotions.NotAPolicy as refusal:
            raise Problem(HTTPStatus.CONFLICT, str(refusal)) from None
        except promotions.AlreadyChampion:
            pass  # a program repeats the call whose answer it did not get
        return Response(ModelVersionSerializer(model, context={"slug": slug, "champion_pk": model.pk}).data)
