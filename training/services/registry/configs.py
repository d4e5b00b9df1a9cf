"""Configs: what the engine is told: its own defaults, over them the project's preset, over that its own values."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings

from training import stages
from training.models import ModelVersion, TrainingSettings
from training.presets import PRESETS
from training.rlhf.config import SCHEMA, RunConfig, parse, trunk_role
from training.rlhf.exits import InvalidInput
from training.services.registry import model_versions
from training.stages import Stage

ROUNDS_PER_SEED = 1_000  # two rounds of a project never draw the same numbers
MOST_THREADS = 8  # of one engine on a CPU: the models that a CPU can train gain nothing from more


class BadSettings(InvalidInput):
    """The engine refuses a setting of `stage`; `field` names it."""

    def __init__(self, stage: str, refusal: InvalidInput) -> None:
        super().__init__(str(refusal), kind=refusal.kind, field=refusal.field)
        self.stage = stage


def make(
    training: TrainingSettings, stage: str, *, round_number: int, parents: Mapping[str, ModelVersion]
) -> RunConfig:
    """The config of a stage of a round, with the settings as they are now. Raises BadSettings.

    Beside an adapter it names the whole model that this stands on; where that is gone, BadSettings says so.
    """
    seed = training.seed * ROUNDS_PER_SEED + round_number
    named = {role: _parent(model) for role, model in parents.items()}
    for role, model in parents.items():
        if reason := model_versions.why_base_missing(model):
            field = f"parents.{trunk_role(role)}"
            raise BadSettings(stage, InvalidInput(reason, kind="trunk_missing", field=field))
        if model.stands_on:
            named[trunk_role(role)] = _parent(model.stands_on)
    return _parse(training, stage, seed, named)


def check(training: TrainingSettings, stage: str) -> RunConfig:
    """What the settings make of a stage, whatever models it will start from. Raises BadSettings."""
    anything = {"path": "", "manifest_sha256": ""}
    return _parse(training, stage, 0, dict.fromkeys(stages.find(stage).config.required_parents, anything))


def preset_values(training: TrainingSettings, stage: str) -> dict[str, Any]:
    """What lies between the engine's defaults and the project's own values: all that a stage gets in their absence."""
    values = {"threads": threads(), **PRESETS[training.preset].values.get(stage, {})}
    return values | {"k": training.completions_per_slate} if stage == Stage.SAMPLING else values


def threads() -> int:
    """How many threads an engine computes with. It is part of a run's config, since sums depend on it."""
    return min(os.cpu_count() or 1, MOST_THREADS)


def _parse(training: TrainingSettings, stage: str, seed: int, parents: Mapping[str, dict[str, str]]) -> RunConfig:
    fixed = {"schema": SCHEMA, "stage": stage, "seed": seed, "parents": parents}
    try:
        return parse(fixed | preset_values(training, stage) | training.overrides.get(stage, {}))
    except InvalidInput as refusal:
        raise BadSettings(stage, refusal) from refusal


def _parent(model: ModelVersion) -> dict[str, str]:
    # Relative, where the model lies in the data directory, so that the directory can be moved.
    is_outside = Path(model.external_path).is_absolute()
    path = model.directory if is_outside else os.path.relpath(model.directory, Path(settings.DATA_DIR, "runs", "run"))
    return {"path": str(path), "manifest_sha256": model.manifest_sha256}
