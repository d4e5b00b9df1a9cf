"""Capacity: how much memory and disk a round takes, and how much is there, as far as the workers know.

The figures are upper bounds from the size of the base model: weights and optimiser in fp32, the largest batch. Where
all stages train adapters, one copy of the weights is held, and what trains and is written is a small share of them.
"""

from __future__ import annotations

import shutil
from typing import NamedTuple

from django.conf import settings

from training import stages
from training.models import ModelVersion, Worker
from training.rlhf import memory
from training.rlhf.config import RunConfig
from training.services.planning import adapters
from training.services.planning.plans import Plan
from training.services.registry import model_sizes

SPARE_BYTES = 200_000_000  # of disk, for logs, metrics and samples


class Required(NamedTuple):
    """What a round takes at most, in bytes."""

    memory: int
    disk: int
    hungriest: str = ""  # the stage whose batch takes most memory


class Available(NamedTuple):
    """What is free, in bytes. `memory` is None where no worker is there, or one does not know what it has."""

    memory: int | None
    disk: int


def required(base: ModelVersion, plan: Plan, configs: dict[str, RunConfig]) -> Required:
    """What the stages of `plan` take, whose models all descend from `base`."""
    shape, running = model_sizes.shape_of(base), [stages.find(stage.stage) for stage in plan.stages if stage.will_run]
    weights = model_sizes.fp32_bytes(base, shape)
    vocabulary = int(shape.get("vocab_size", 0))
    share = adapters.largest_share(configs, shape)
    trained = int(share * weights)
    held = max((stage.config.weights_held * trained for stage in running), default=0) + (weights if share < 1 else 0)
    batches = {stage.name: memory.logits_bytes(configs[stage.name].batch_tokens, vocabulary) for stage in running}
    hungriest = max(batches, key=batches.__getitem__, default="")
    logits = batches.get(hungriest, 0)
    written = max((stage.weights_on_disk * trained for stage in running), default=0)
    kept = sum(trained for stage in running if stage.makes_model)  # outputs stay; checkpoints of one stage at once
    return Required(memory=held + logits + memory.PROCESS_BYTES, disk=written + kept + SPARE_BYTES, hungriest=hungriest)


def available(workers: list[Worker]) -> Available:
    """What is free for `workers`, on any of which the round may run."""
    known = [worker.memory for worker in workers if worker.memory is not None]
    return Available(
        min(known) if known and len(known) == len(workers) else None, shutil.disk_usage(settings.DATA_DIR).free
    )
