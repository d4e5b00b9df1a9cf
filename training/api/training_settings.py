"""Training settings: what every stage trains with, where each value comes from, and changing some of them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, ClassVar

from django.db import transaction
from django.http import Http404
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.api.endpoints import Endpoint
from annotate.api.problems import Problem
from annotate.models import ApiToken, Project, Role
from training.models import TrainingSettings
from training.presets import PRESETS, Preset
from training.services.registry import settings_changes, training_settings
from training.services.registry.training_settings import Setting, StageSettings

KINDS = {int: "integer", float: "number", str: "text"}


class SourceSerializer(serializers.Serializer[Any]):
    what = serializers.CharField()
    where = serializers.CharField()


class PresetSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    suits = serializers.CharField(help_text="The base models it is meant for.")
    is_measured = serializers.BooleanField(help_text="Whether complete rounds with it have been benchmarked.")
    sources = SourceSerializer(many=True, help_text="The sources of its values.")


@extend_schema_field({"oneOf": [{"type": "number"}, {"type": "string"}]})
class ValueField(serializers.Field[Any, Any, Any, Any]):
    """A number, or one of a setting's choices."""

    def to_representation(self, value: Any) -> Any:
        return value


class SettingSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]  # the document's word for it
    meaning = serializers.CharField()
    cost = serializers.CharField(help_text="Its cost in memory, time or disk space.")
    unit = serializers.CharField()
    kind = serializers.SerializerMethodField(help_text="“integer”, “number” or “text”.")
    value = ValueField(help_text="The value for the next run of the stage.")
    preset = ValueField(source="preset_value", help_text="The value if the project does not set its own.")
    default = ValueField(help_text="The engine's default.")
    at_least = serializers.FloatField(source="limits.at_least", allow_null=True)
    above = serializers.FloatField(source="limits.above", allow_null=True)
    at_most = serializers.FloatField(source="limits.at_most", allow_null=True)
    below = serializers.FloatField(source="limits.below", allow_null=True)
    one_of = serializers.ListField(source="limits.one_of", child=serializers.CharField())
    differs = serializers.BooleanField(help_text="Whether the value differs from the preset's.")

    def get_kind(self, setting: Setting) -> str:
        return KINDS[setting.kind]


class StageSettingsSerializer(serializers.Serializer[Any]):
    stage = serializers.CharField(source="stage.name")
    settings = SettingSerializer(many=True)


class TrainingSettingsSerializer(serializers.Serializer[Any]):
    preset = serializers.CharField()
    suggested_preset = serializers.CharField(help_text="The preset recommended for the base model's size.")
    preset_by_hand = serializers.BooleanField(help_text="Whether someone has chosen a preset for the project.")
    preset_reason = serializers.CharField(help_text="The same in words, with the size of the base model.")
    context = serializers.IntegerField(  # type: ignore[assignment]  # the document's word for it
        allow_null=True, help_text="The base model's context length in tokens, if known."
    )
    presets = PresetSerializer(many=True)
    stages = StageSettingsSerializer(many=True)


class ValuesField(serializers.DictField):
    """{stage: {setting: value}}."""

    child = serializers.DictField(child=serializers.JSONField(allow_null=True))


class ChangeSerializer(serializers.Serializer[Any]):
    preset = serializers.ChoiceField(choices=list(PRESETS), required=False)
    stages = ValuesField(required=False, help_text="By stage and setting; null means the preset's value.")
    seen = ValuesField(
        required=False, help_text="The values you saw. If any of them has changed since, nothing is saved (409)."
    )


class TrainingSettingsEndpoint(Endpoint):
    scope: ClassVar[str] = ApiToken.Scope.ADMIN

    @extend_schema(operation_id="training_settings", responses=TrainingSettingsSerializer)
    def get(self, request: Request, slug: str) -> Response:
        """Every setting of every stage, with its limits and where its value comes from."""
        return _answer(self.project(slug, role=Role.ADMIN))

    @extend_schema(
        operation_id="training_settings_change", request=ChangeSerializer, responses=TrainingSettingsSerializer
    )
    def patch(self, request: Request, slug: str) -> Response:
        """Change the settings that are named; all others stay. Runs that are queued already keep their values."""
        project = self.project(slug, role=Role.ADMIN)
        body = self.valid(ChangeSerializer)
        try:
            with transaction.atomic():
                if "preset" in body:
                    settings_changes.choose_preset(project, name=body["preset"], actor=self.user)
                settings_changes.change(project, values=body.get("stages", {}), seen=body.get("seen"), actor=self.user)
        except TrainingSettings.DoesNotExist as missing:
            raise Http404 from missing
        except settings_changes.Refused as refused:
            raise ValidationError({"stages": refused.errors}) from None
        except settings_changes.Changed as changed:
            detail = _("Someone else has changed this in the meantime: %(now)s.") % {"now": changed}
            raise Problem(HTTPStatus.CONFLICT, detail, now=changed.now) from None
        return _answer(project)


def _answer(project: Project) -> Response:
    training = TrainingSettings.objects.filter(project=project).first()
    if training is None:
        raise Http404
    stages: list[StageSettings] = training_settings.build(training)
    presets: list[Preset] = list(PRESETS.values())
    shown = {
        "preset": training.preset,
        "suggested_preset": training_settings.suggest(training).name,
        "preset_by_hand": training_settings.is_preset_by_hand(training),
        "preset_reason": training_settings.preset_reason(training),
        "context": training_settings.context_of(training),
        "presets": presets,
        "stages": stages,
    }
    return Response(TrainingSettingsSerializer(shown).data)
