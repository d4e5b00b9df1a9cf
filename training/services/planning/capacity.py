"""Capacity: how much memory and disk a round takes at most, by the size of the base model alone.

Weights and optimiser count in fp32, with the largest batch. What a worker has counted is used instead, once it has:
training/services/planning/memory_plan.py.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from typing import Any

from django.conf import settings

from training import stages
from training.models import ModelVersion
from training.rlhf import memory
from training.rlhf.config import RunConfig
from training.services.planning.plans import Plan
from training.stages import StageDefinition

SPARE_BYTES = 200_000_000  # of disk, for logs, metrics and samples
HALF_PRECISION = ("bfloat16", "float16")


def memory_bounds(base: ModelVersion, plan: Plan, configs: Mapping[str, RunConfig]) -> dict[str, int]:
    """The bytes of memory that each stage of `plan` takes at most, whose models all descend from `base`."""
    shape = _shape(base)
    weights, vocabulary = _weights(base, shape), int(shape.get("vocab_size", 0))
    return {
        stage.name: stage.config.weights_held * weights
        + memory.logits_bytes(configs[stage.name].batch_tokens, vocabulary)
        + memory.PROCESS_BYTES
        for stage in _running(plan)
    }


def disk_bound(base: ModelVersion, plan: Plan) -> int:
    """The bytes of disk that the stages of `plan` take at most."""
    weights, running = _weights(base, _shape(base)), _running(plan)
    written = max((stage.weights_on_disk * weights for stage in running), default=0)
    kept = sum(weights for stage in running if stage.makes_model)  # outputs stay; checkpoints of one stage at once
    return written + kept + SPARE_BYTES


def free_disk() -> int:
    """The bytes that are free where the data is."""
    return shutil.disk_usage(settings.DATA_DIR).free


def _running(plan: Plan) -> list[StageDefinition]:
    return [stages.find(stage.stage) for stage in plan.stages if stage.will_run]


def _weights(base: ModelVersion, shape: dict[str, Any]) -> int:
    """The bytes of the base model's weights as the engine holds them."""
    files = base.manifest.get("files", {})
    stored = sum(facts["size"] for name, facts in files.items() if name.endswith(".safetensors"))
    is_half = shape.get("dtype", shape.get("torch_dtype")) in HALF_PRECISION
    return int(stored * 2 if is_half else stored)


def _shape(base: ModelVersion) -> dict[str, Any]:
    try:
        shape: dict[str, Any] = json.loads((base.directory / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}  # the stage that reads it will say so
    return shape
