"""Training settings: what every stage of a project trains with, and where each value comes from.

Limits and units are the engine's. Left out on purpose: the seed, which nobody tunes, and the number of answers in a
set, which stands with the project's own settings. How they are changed: training/services/registry/settings_changes.py.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext as _

from annotate.models import AuditEvent
from training import presets, stages
from training.models import ModelVersion, TrainingSettings
from training.presets import PRESETS, Preset
from training.rlhf.config import Limits, RunConfig
from training.services.registry import adoption_words, adoptions, configs
from training.services.registry.adoptions import NotAdopted, UnknownFolder
from training.services.run_files.config_fields import SET_ELSEWHERE, UNITS, SettingLink, words_of
from training.stages import StageDefinition
from training.stages.metric import Words
from training.tiny import recipe

CHANGED = "training_settings.changed"  # in the audit log: someone has changed them


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One field of a stage's config, in this project."""

    stage: str
    name: str
    label: Words
    meaning: Words
    cost: Words
    unit: Words
    kind: type  # int, float or str
    limits: Limits
    value: Any
    preset_value: Any
    default: Any  # the engine's
    is_main: bool  # one of those that people change most

    @property
    def anchor(self) -> str:
        return SettingLink(self.stage, self.name).anchor

    @property
    def differs(self) -> bool:
        return bool(self.value != self.preset_value)


@dataclass(frozen=True, kw_only=True)
class StageSettings:
    """The settings of one stage, those that people change most first."""

    stage: StageDefinition
    settings: list[Setting]
    unknown: dict[str, Any] = field(default_factory=dict)  # stored, but no field of the engine

    @property
    def differing(self) -> list[Setting]:
        return [setting for setting in self.settings if setting.differs]


def build(training: TrainingSettings) -> list[StageSettings]:
    """The settings of every stage of a round."""
    return [_of_stage(training, stage) for stage in stages.DEFINITIONS if stage.plan]


def differing(training: TrainingSettings) -> dict[str, list[Setting]]:
    """The settings that differ from the preset, by stage."""
    return {each.stage.name: each.differing for each in build(training)}


def suggest(training: TrainingSettings) -> Preset:
    """The preset for a base model of that size."""
    if _is_built_in(training):
        return presets.TINY
    return presets.for_size(base_parameters(training))


def base_parameters(training: TrainingSettings) -> int:
    """How many an adopted base model has; 0 where nobody has counted them."""
    return 0 if _is_built_in(training) else int(_report(training).get("parameters", 0))


def is_preset_by_hand(training: TrainingSettings) -> bool:
    """Whether someone has ever chosen a preset for the project, which the audit log knows."""
    changes = AuditEvent.objects.filter(project=training.project_id, action=CHANGED)
    return changes.filter(detail__fields__has_key="preset").exists()


def preset_reason(training: TrainingSettings) -> str:
    """In words: who or what has chosen the preset, and which one suits the base model."""
    by_hand = _("Chosen by hand.") if is_preset_by_hand(training) else ""
    suggested, parameters = suggest(training), base_parameters(training)
    if _is_built_in(training):
        model = _("the built-in tiny model")
    elif parameters:
        about = {"name": training.base_model, "size": adoption_words.parameters(parameters)}
        model = _("“%(name)s” (%(size)s)") % about
    else:
        unknown = _("The size of “%(name)s” is not known.") % {"name": training.base_model}
        return f"{by_hand} {unknown}".strip()
    if PRESETS[training.preset].largest == suggested.largest:  # it, or another for that size
        return by_hand or _("Chosen automatically for %(model)s.") % {"model": model}
    advice = _("Recommended for %(model)s: %(preset)s.") % {"model": model, "preset": suggested.label}
    return f"{by_hand} {advice}".strip()


def context_of(training: TrainingSettings) -> int | None:
    """How many tokens the base model reads at once; None where that is not known yet."""
    if not _is_built_in(training):
        return _report(training).get("context")
    base = ModelVersion.objects.bases().filter(project=training.project_id).first()
    if base is None:
        return recipe.config().context
    try:
        shape: dict[str, Any] = json.loads((base.directory / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return shape.get("max_position_embeddings")


def given(training: TrainingSettings, stage: str) -> dict[str, Any]:
    """Every field's value where the project says nothing."""
    config: type[RunConfig] = stages.find(stage).config
    fields = dataclasses.fields(config)
    defaults: dict[str, Any] = {each.name: each.default for each in fields if each.name not in SET_ELSEWHERE}
    return defaults | configs.preset_values(training, stage)


def effective(training: TrainingSettings, stage: str) -> dict[str, Any]:
    """Every field's value, as a run that is queued now would get it."""
    own: dict[str, Any] = training.overrides.get(stage, {})
    return given(training, stage) | own


def _of_stage(training: TrainingSettings, stage: StageDefinition) -> StageSettings:
    preset, values = given(training, stage.name), effective(training, stage.name)
    own = training.overrides.get(stage.name, {})
    known = {each.name: each for each in dataclasses.fields(stage.config)}
    shared = {each.name for each in dataclasses.fields(RunConfig)}
    main = stage.main_settings or tuple(name for name in known if name not in shared)
    names = [*main, *(name for name in known if name not in main)]
    return StageSettings(
        stage=stage,
        settings=[
            _setting(stage, known[name], values[name], preset[name], is_main=name in main)
            for name in names
            if name not in SET_ELSEWHERE
        ],
        unknown={name: value for name, value in own.items() if name not in known},
    )


def _setting(
    stage: StageDefinition, field: dataclasses.Field[Any], value: Any, preset_value: Any, *, is_main: bool
) -> Setting:
    words = words_of(stage.name, field.name)
    unit = field.metadata.get("unit", "")
    return Setting(
        stage=stage.name,
        name=field.name,
        label=words.label,
        meaning=words.meaning,
        cost=words.cost,
        unit=UNITS.get(unit, unit),
        kind=type(field.default),
        limits=field.metadata.get("limits", Limits()),
        value=value,
        preset_value=preset_value,
        default=field.default,
        is_main=is_main,
    )


def _is_built_in(training: TrainingSettings) -> bool:
    return training.base_model == TrainingSettings.TINY


def _report(training: TrainingSettings) -> dict[str, Any]:
    """What was measured of an adopted base model; empty before it was."""
    base = ModelVersion.objects.bases().filter(project=training.project_id).select_related("adoption").first()
    if base and base.adoption:
        return dict(base.adoption.report)
    try:
        return dict(adoptions.adopted(training.base_model).report)
    except (UnknownFolder, NotAdopted):
        return {}
