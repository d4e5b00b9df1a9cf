"""Rounds: trigger one, watch it, cancel it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, ClassVar

from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.api.endpoints import Endpoint, PageSerializer
from annotate.api.problems import Problem
from annotate.models import ApiToken, Role
from training.models import IllegalMove, LostRace, Round, Run
from training.services.pages import progress
from training.services.pages.progress import StageProgress
from training.services.run_files.reader import RunFiles
from training.services.running import rounds


class RunSerializer(serializers.ModelSerializer[Run]):
    metrics = serializers.SerializerMethodField(
        help_text="The figures shown on pages. Metrics measured at each step: the mean of the last tenth of the steps "
        "so far. skipped_steps: the total. gauge/: the last measurement. Metrics measured once, such as those of an "
        "evaluation: that value."
    )

    class Meta:
        model = Run
        fields = ("id", "status", "step", "total", "attempt", "metrics", "error", "started_at", "finished_at")

    def get_metrics(self, run: Run) -> dict[str, float]:
        return {name: figure.value for name, figure in progress.figures(RunFiles(run)).items()}


class StageSerializer(serializers.Serializer[Any]):
    stage = serializers.CharField(source="plan.stage")
    state = serializers.CharField(help_text="A run's status, “waiting” or “left_out”.")
    reason = serializers.CharField(allow_blank=True, help_text="Why the stage is left out.")
    counts = serializers.DictField(source="plan.counts", child=serializers.IntegerField())
    model = serializers.SerializerMethodField(help_text="The model published by the stage.")
    run = RunSerializer(allow_null=True)

    def get_model(self, stage: StageProgress) -> str | None:
        return stage.model_name or None


class RoundSerializer(serializers.ModelSerializer[Round]):
    class Meta:
        model = Round
        fields: tuple[str, ...] = ("number", "status", "error", "created_at", "started_at", "finished_at")


class RoundPageSerializer(PageSerializer):
    results = RoundSerializer(many=True)


class RoundDetailSerializer(RoundSerializer):
    stages = serializers.SerializerMethodField()

    class Meta(RoundSerializer.Meta):
        fields = (*RoundSerializer.Meta.fields, "stages")

    @extend_schema_field(StageSerializer(many=True))
    def get_stages(self, round: Round) -> list[Any]:
        return list(StageSerializer(progress.stages_of(round), many=True).data)


class Rounds(Endpoint):
    scope: ClassVar[str] = ApiToken.Scope.ADMIN
    parameters: ClassVar[tuple[str, ...]] = ("cursor",)

    @extend_schema(operation_id="rounds_list", responses=RoundPageSerializer)
    def get(self, request: Request, slug: str) -> Response:
        """The rounds of a project, newest first."""
        project = self.project(slug, role=Role.ADMIN)
        return self.page(Round.objects.for_user(self.user).filter(project=project), RoundSerializer)

    @extend_schema(request=None, responses={201: RoundDetailSerializer})
    def post(self, request: Request, slug: str) -> Response:
        """Freeze the labels and start the next round. 409 with its number while one is running."""
        project = self.project(slug, role=Role.ADMIN)
        try:
            opened = rounds.open(project, opened_by=self.user)
        except rounds.RoundRunning as running:
            detail = _("Round %(number)d is already running.") % {"number": running.round.number}
            raise Problem(HTTPStatus.CONFLICT, detail, round=running.round.number) from None
        except rounds.NotReady as obstacle:
            raise Problem(HTTPStatus.CONFLICT, str(obstacle)) from None
        return Response(RoundDetailSerializer(opened).data, status=status.HTTP_201_CREATED)


class RoundDetail(Endpoint):
    @extend_schema(responses=RoundDetailSerializer)
    def get(self, request: Request, slug: str, number: int) -> Response:
        """One round: its stages, and how far each is."""
        project = self.project(slug, role=Role.ADMIN)
        visible = Round.objects.for_user(self.user).filter(project=project)
        return Response(RoundDetailSerializer(get_object_or_404(visible, number=number)).data)


class RoundCancel(Endpoint):
    scope: ClassVar[str] = ApiToken.Scope.ADMIN

    @extend_schema(request=None, responses=RoundDetailSerializer)
    def post(self, request: Request, slug: str, number: int) -> Response:
        """Stop a round. What it has published stays."""
        project = self.project(slug, role=Role.ADMIN)
        round = get_object_or_404(Round.objects.for_user(self.user), project=project, number=number)
        try:
            rounds.cancel(round, actor=self.user)
        except (IllegalMove, LostRace):
            raise Problem(HTTPStatus.CONFLICT, _("The round has already ended.")) from None
        return Response(RoundDetailSerializer(round).data)
