"""The plan of the next round: its stages, what speaks against it, and the memory that it needs."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.api.endpoints import Endpoint
from annotate.api.problems import Problem
from annotate.models import Role
from training.models import TrainingSettings, Worker
from training.services.planning import plans, preflight
from training.services.planning.memory_plan import StageMemory


class StageMemorySerializer(serializers.Serializer[Any]):
    needed = serializers.IntegerField(help_text="Bytes at the peak.")
    counted = serializers.BooleanField(
        source="is_counted", help_text="Whether a worker has counted `needed`; otherwise it is an upper bound."
    )
    fits = serializers.SerializerMethodField(help_text="The gpu-workers with enough memory.")
    lacks = serializers.SerializerMethodField(help_text="Those with too little.")
    settings = serializers.DictField(
        help_text="Settings of the stage with which it would fit; empty if it fits or none are known."
    )
    smallest = serializers.IntegerField(help_text="Bytes needed with the lightest settings counted.")

    @extend_schema_field({"type": "array", "items": {"type": "string"}})
    def get_fits(self, memory: StageMemory) -> list[str]:
        return _names(memory.fits)

    @extend_schema_field({"type": "array", "items": {"type": "string"}})
    def get_lacks(self, memory: StageMemory) -> list[str]:
        return _names(memory.lacks)


class PlannedStageSerializer(serializers.Serializer[Any]):
    stage = serializers.CharField()
    reason = serializers.CharField(allow_blank=True, help_text="Why the stage is left out.")
    counts = serializers.DictField(child=serializers.IntegerField())
    memory = StageMemorySerializer(allow_null=True, help_text="null for a stage that is left out.")


class PreflightLineSerializer(serializers.Serializer[Any]):
    level = serializers.CharField(help_text="“block”, “warn” or “note”.")
    text = serializers.CharField()


class RoundPlanSerializer(serializers.Serializer[Any]):
    number = serializers.IntegerField()
    memory_count = serializers.CharField(
        allow_null=True, help_text="“pending”, “done” or “failed”; null if nothing can be counted yet."
    )
    stages = PlannedStageSerializer(many=True)
    preflight = PreflightLineSerializer(many=True)


class RoundPlan(Endpoint):
    @extend_schema(operation_id="rounds_plan", responses=RoundPlanSerializer)
    def get(self, request: Request, slug: str) -> Response:
        """The plan of the next round. If its memory has not been counted, a worker is asked to."""
        project = self.project(slug, role=Role.ADMIN)
        if not TrainingSettings.objects.filter(project=project).exists():
            raise Problem(HTTPStatus.CONFLICT, _("This project has no base model yet. Choose one in the settings."))
        plan = plans.draft(project)
        checked = preflight.check(project, plan, preflight.gather(project))
        memory = {each.stage: each for each in checked.memory.stages}
        stages = [
            {"stage": each.stage, "reason": each.reason, "counts": each.counts, "memory": memory.get(each.stage)}
            for each in plan.stages
        ]
        count = checked.memory.count
        found = {"number": plan.number, "memory_count": count.status if count else None, "stages": stages}
        return Response(RoundPlanSerializer(found | {"preflight": checked.lines}).data)


def _names(workers: list[Worker]) -> list[str]:
    return [worker.name for worker in workers]
