"""Capacity: how much memory and disk a round takes at most, by the size of the base model alone.

Weights and optimiser count in fp32, with the largest batch. Where all stages train adapters, the models that they stand
on are held once, and what trains and is written is a small share of them. What a worker has counted is used instead,
once it has: training/services/planning/memory_plan.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping

from django.conf import settings

from training import stages
from training.models import ModelVersion
from training.rlhf import memory
from training.rlhf.config import RunConfig
from training.services.planning import adapters
from training.services.planning.adapters import Weights
from training.services.planning.plans import Plan
from training.services.registry import model_sizes
from training.stages import StageDefinition

SPARE_BYTES = 200_000_000  # of disk, for logs, metrics and samples


def memory_bounds(
    base: ModelVersion, configs: Mapping[str, RunConfig], parents: Mapping[str, Mapping[str, Weights]]
) -> dict[str, int]:
    """The bytes of memory that each stage takes at most that has a config; all models descend from `base`."""
    shape = model_sizes.shape_of(base)
    weights, vocabulary = model_sizes.fp32_bytes(base, shape), int(shape.get("vocab_size", 0))
    trained = _trained_bytes(base, configs)
    frozen = weights if trained < weights else 0  # of each model that adapters stand on, or that only is read
    return {
        name: stages.find(name).config.weights_held * trained
        + frozen * len({one.whole for one in parents[name].values()})
        + memory.logits_bytes(config.batch_tokens, vocabulary)
        + memory.PROCESS_BYTES
        for name, config in configs.items()
    }


def disk_bound(base: ModelVersion, plan: Plan, configs: Mapping[str, RunConfig]) -> int:
    """The bytes of disk that the stages of `plan` take at most."""
    trained, running = _trained_bytes(base, configs), _running(plan)
    written = max((stage.weights_on_disk * trained for stage in running), default=0)
    kept = sum(trained for stage in running if stage.makes_model)  # outputs stay; checkpoints of one stage at once
    return written + kept + SPARE_BYTES


def free_disk() -> int:
    """The bytes that are free where the data is."""
    return shutil.disk_usage(settings.DATA_DIR).free


def _trained_bytes(base: ModelVersion, configs: Mapping[str, RunConfig]) -> int:
    """The bytes of the weights that a stage trains at most."""
    shape = model_sizes.shape_of(base)
    return int(adapters.largest_share(configs, shape) * model_sizes.fp32_bytes(base, shape))


def _running(plan: Plan) -> list[StageDefinition]:
    return [stages.find(stage.stage) for stage in plan.stages if stage.will_run]
