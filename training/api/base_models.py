"""Base models: what a worker found in each folder of BASE_MODELS_DIR; having one examined again."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, ClassVar

from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.api.endpoints import Endpoint, PageSerializer
from annotate.api.problems import Problem
from annotate.models import ApiToken
from training.services.registry import adoption_words, adoptions
from training.services.registry.adoptions import Folder
from training.services.registry.model_folders import Unreadable


class FindingSerializer(serializers.Serializer[Any]):
    level = serializers.CharField(help_text="“block”, “warn” or “note”.")
    text = serializers.CharField()


class BaseModelSerializer(serializers.Serializer[Any]):
    folder = serializers.CharField(source="name")
    state = serializers.CharField(
        help_text="“new”, “changed”, “pending”, “running”, “adopted”, “refused”, “failed” or “unreadable”."
    )
    can_be_used = serializers.SerializerMethodField(help_text="Whether projects can choose it now.")
    why_not = serializers.SerializerMethodField()
    sha256 = serializers.SerializerMethodField()
    findings = serializers.SerializerMethodField()
    preset = serializers.SerializerMethodField(
        help_text="The preset of a project that chooses it; null while it cannot be used."
    )
    other_presets = serializers.SerializerMethodField(help_text="Presets for the same size that its admins can choose.")
    report = serializers.SerializerMethodField(help_text="What the engine measured; empty before the check.")

    def get_can_be_used(self, folder: Folder) -> bool:
        return folder.adopted is not None

    def get_why_not(self, folder: Folder) -> str:
        return "" if folder.adopted else adoption_words.why_not(folder)

    def get_sha256(self, folder: Folder) -> str:
        return folder.settled.sha256 if folder.settled else ""

    def get_findings(self, folder: Folder) -> list[dict[str, str]]:
        return [remark._asdict() for remark in adoption_words.findings(folder.report)]

    def get_preset(self, folder: Folder) -> str | None:
        return folder.preset.name if folder.preset else None

    def get_other_presets(self, folder: Folder) -> list[str]:
        return [preset.name for preset in folder.other_presets]

    def get_report(self, folder: Folder) -> dict[str, Any]:
        return folder.report


class BaseModelPageSerializer(PageSerializer):
    results = BaseModelSerializer(many=True)


class ExamineSerializer(serializers.Serializer[Any]):
    context = serializers.IntegerField(  # type: ignore[assignment]  # the document's word for it
        required=False,
        allow_null=True,
        min_value=1,
        max_value=adoptions.LARGEST_CONTEXT,
        help_text="The context length in tokens, for a model whose config has none; null removes it.",
    )


class BaseModels(Endpoint):
    @extend_schema(operation_id="base_models_list", responses=BaseModelPageSerializer)
    def get(self, request: Request) -> Response:
        """The folders of BASE_MODELS_DIR, by name, all on one page."""
        _site_admins_only(self)
        results = BaseModelSerializer(adoptions.folders(), many=True).data
        return Response({"next": None, "previous": None, "results": results})


class Examine(Endpoint):
    scope: ClassVar[str] = ApiToken.Scope.ADMIN

    @extend_schema(request=ExamineSerializer, responses={201: BaseModelSerializer})
    def post(self, request: Request, folder: str) -> Response:
        """Have a worker examine the folder. 409 while one is at it with another context."""
        _site_admins_only(self)
        stated = self.valid(ExamineSerializer)
        try:
            context = stated["context"] if "context" in stated else adoptions.stated_context(folder)
            adoptions.ask(folder, context=context, asked_by=self.user)
        except adoptions.UnknownFolder as unknown:
            raise Http404 from unknown
        except (adoptions.UnderWay, Unreadable) as refusal:
            raise Problem(HTTPStatus.CONFLICT, str(refusal)) from None
        return Response(BaseModelSerializer(adoptions.find(folder)).data, status=status.HTTP_201_CREATED)


def _site_admins_only(endpoint: Endpoint) -> None:
    if not endpoint.user.is_superuser:
        raise PermissionDenied(_("Only site admins can manage base models."))
