"""Projects: which there are for me, and how far each is."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.api.endpoints import Endpoint, PageSerializer
from annotate.models import Project
from annotate.services import overview


class ProjectSerializer(serializers.ModelSerializer[Project]):
    class Meta:
        model = Project
        fields = ("slug", "name", "created_at")


class CountsSerializer(serializers.Serializer[Any]):
    prompts = serializers.IntegerField()
    demonstrations = serializers.IntegerField()
    rankings = serializers.IntegerField()


class WorkSerializer(serializers.Serializer[Any]):
    kind = serializers.CharField()
    waiting = serializers.IntegerField()
    reason = serializers.CharField(allow_blank=True)


class ProjectPageSerializer(PageSerializer):
    results = ProjectSerializer(many=True)


class ProjectDetailSerializer(serializers.ModelSerializer[Project]):
    counts = serializers.SerializerMethodField()
    work = serializers.SerializerMethodField()

    class Meta:
        model = Project
        fields = ("slug", "name", "created_at", "guidelines", "counts", "work")

    @extend_schema_field(CountsSerializer)
    def get_counts(self, project: Project) -> dict[str, int]:
        return {
            "prompts": project.prompts.active().count(),
            "demonstrations": project.demonstrations.newest().count(),
            "rankings": project.rankings.newest().count(),
        }

    @extend_schema_field(WorkSerializer(many=True))
    def get_work(self, project: Project) -> list[Any]:
        """The caller's available work; none for site admins who are not members."""
        member = project.members.active().filter(user=self.context["user"]).first()
        return list(WorkSerializer(overview.overview(member), many=True).data) if member else []


class Projects(Endpoint):
    parameters: ClassVar[tuple[str, ...]] = ("cursor",)

    @extend_schema(operation_id="projects_list", responses=ProjectPageSerializer)
    def get(self, request: Request) -> Response:
        """List the projects you can see."""
        return self.page(Project.objects.for_user(self.user), ProjectSerializer)


class ProjectDetail(Endpoint):
    @extend_schema(responses=ProjectDetailSerializer)
    def get(self, request: Request, slug: str) -> Response:
        """One project: guidelines, counts, and your available work."""
        serializer = ProjectDetailSerializer(self.project(slug), context={"user": self.user})
        return Response(serializer.data)
