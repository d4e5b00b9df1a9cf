"""Configs: what the engine is told, from its own defaults, the built-in model's preset and the project's overrides."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from django.conf import settings

from training.models import ModelVersion, TrainingSettings
from training.rlhf.config import SCHEMA, RunConfig, parse
from training.stages import Stage
from training.tiny.preset import PRESET

ROUNDS_PER_SEED = 1_000  # two rounds of a project never draw the same numbers
MOST_THREADS = 8  # of one engine on a CPU: the models that a CPU can train gain nothing from more


def make(
    training: TrainingSettings, stage: str, *, round_number: int, parents: Mapping[str, ModelVersion]
) -> RunConfig:
    """The config of a stage of a round. Raises InvalidInput for a bad override."""
    fields = {
        "schema": SCHEMA,
        "stage": stage,
        "seed": training.seed * ROUNDS_PER_SEED + round_number,
        "threads": threads(),
        "parents": {role: _parent(model) for role, model in parents.items()},
    }
    if training.base_model == TrainingSettings.TINY:
        fields |= PRESET.get(stage, {})
    if stage == Stage.SAMPLING:
        fields["k"] = training.completions_per_slate
    return parse(fields | training.overrides.get(stage, {}))


def threads() -> int:
    """How many threads an engine computes with. It is part of a run's config, since sums depend on it."""
    return min(os.cpu_count() or 1, MOST_THREADS)


def _parent(model: ModelVersion) -> dict[str, str]:
    # Relative, where the model lies in the data directory, so that the directory can be moved.
    is_outside = Path(model.external_path).is_absolute()
    path = model.directory if is_outside else os.path.relpath(model.directory, Path(settings.DATA_DIR, "runs", "run"))
    return {"path": str(path), "manifest_sha256": model.manifest_sha256}
