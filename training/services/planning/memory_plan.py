"""The memory plan: what each stage of a round needs at its peak, what the gpu-workers have, and what makes it fit.

Until a worker has counted it, and where it cannot be counted, the bound of training/services/planning/capacity.py
stands in for it. Any gpu-worker may take a stage, so a round is safe where its stages fit on all of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from annotate.models import Project, User
from training.models import Examination, ModelVersion, TrainingSettings, Worker
from training.rlhf.config import RunConfig
from training.services.planning import adapters, capacity, examinations, memory_counts
from training.services.planning.adapters import Existing
from training.services.planning.plans import Plan
from training.services.registry import settings_changes, training_settings
from training.services.run_files.config_fields import SettingLink

Variant = dict[str, Any]  # as training/rlhf/memory_count/report.py writes it: {"settings", "needed", "peaks"}
Suggestion = dict[str, dict[str, Any]]  # {stage: {field: value}}


class PlanChanged(Exception):
    """The settings that were to be used are no longer those that make the round fit."""


class StageMemory(NamedTuple):
    """Bytes that a stage needs at its peak, and the workers on which it fits and does not.

    `needed` and `there` are about one worker: the one that lacks least where it fits on none, else the one with the
    least to spare, which may lack most.
    """

    stage: str
    needed: int
    there: int  # that the worker has; 0 where none has said
    is_counted: bool
    fits: list[Worker]
    lacks: list[Worker]
    settings: dict[str, Any]  # with which it would fit; empty where it does, and where none make it
    smallest: int  # with the lightest settings that were counted
    refusal: dict[str, Any]  # why it could not be counted, as in ending.json

    @property
    def missing(self) -> int:
        """Bytes by which it has too little."""
        return self.needed - self.there


class Change(NamedTuple):
    """A setting that would be changed to make a stage fit."""

    setting: SettingLink
    before: Any
    after: Any


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """All stages that run, the examination that counts them, and what would be changed to make them fit."""

    stages: list[StageMemory] = field(default_factory=list)
    count: Examination | None = None  # None where no worker has said how much memory it has
    is_awaited: bool = False  # a worker counts, or soon will
    changes: list[Change] = field(default_factory=list)

    @property
    def shown(self) -> str:
        """The settings that make it fit, as the form sends them back."""
        return json.dumps(self.suggestion, sort_keys=True)

    @property
    def suggestion(self) -> Suggestion:
        return {stage.stage: stage.settings for stage in self.stages if stage.settings}

    @property
    def least(self) -> int:
        """Bytes that the smallest worker has; 0 where none has said."""
        workers = [worker for stage in self.stages[:1] for worker in (*stage.fits, *stage.lacks)]
        return min(map(_memory, workers), default=0)


def build(
    project: Project,
    plan: Plan,
    base: ModelVersion,
    stage_configs: Mapping[str, RunConfig],
    training: TrainingSettings,
    workers: Sequence[Worker],
    existing: Existing,
) -> MemoryPlan:
    """The memory of `plan`, by the newest count; a worker is asked for one where there is none."""
    parents = adapters.weights_of_parents(plan, stage_configs, existing)
    told = [worker for worker in workers if worker.memory]
    count = None
    if told and stage_configs:
        key = memory_counts.key_of(project, base, stage_configs, parents, told)
        count = examinations.current(project, Examination.Kind.MEMORY, key)
    counted = _by_stage(count.counts if count else {})
    bounds = capacity.memory_bounds(base, stage_configs, parents)
    found = [judge(stage, bound, counted.get(stage, {}), told) for stage, bound in bounds.items()]
    changes = [
        Change(SettingLink(stage.stage, name), training_settings.effective(training, stage.stage)[name], value)
        for stage in found
        for name, value in stage.settings.items()
    ]
    is_awaited = count is not None and examinations.is_awaited(count)
    return MemoryPlan(stages=found, count=count, is_awaited=is_awaited, changes=changes)


def use_settings(project: Project, memory: MemoryPlan, *, shown: str, actor: User) -> list[str]:
    """Store the settings that make `memory` fit, which a person was shown; return those that have changed.

    Raises PlanChanged where these are others by now, else what settings_changes.change does.
    """
    if not memory.suggestion or shown != memory.shown:
        raise PlanChanged
    seen: Suggestion = {}
    for change in memory.changes:
        seen.setdefault(change.setting.stage, {})[change.setting.name] = change.before
    return settings_changes.change(project, values=memory.suggestion, seen=seen, actor=actor)


def judge(stage: str, bound: int, counted: Mapping[str, dict[str, Any]], workers: Sequence[Worker]) -> StageMemory:
    """What a stage needs, by what was `counted` on each kind of device, and by the bound where nothing was."""
    variants = {kind: found["counted"] for kind, found in counted.items() if "counted" in found}
    refusals = [found["refusal"] for found in counted.values() if "refusal" in found]
    is_counted = bool(variants) and all(worker.kind in variants for worker in workers)
    if not is_counted:
        variants = {worker.kind: [{"settings": {}, "needed": bound}] for worker in workers}
    needed = {worker: _needed(variants[worker.kind], worker) for worker in workers}
    fits = [worker for worker in workers if needed[worker] <= _memory(worker)]
    lacks = [worker for worker in workers if worker not in fits]
    by_shortage = sorted(workers, key=lambda worker: needed[worker] - _memory(worker))
    shown = (by_shortage[-1] if fits else by_shortage[0]) if by_shortage else None
    return StageMemory(
        stage=stage,
        needed=needed[shown] if shown else bound,
        there=_memory(shown) if shown else 0,
        is_counted=is_counted,
        fits=fits,
        lacks=lacks,
        settings=_fitting(variants, workers, fits) if is_counted and lacks else {},
        smallest=max((found[-1]["needed"] for found in variants.values()), default=bound),
        refusal=refusals[0] if refusals else {},
    )


def _by_stage(counts: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, dict[str, dict[str, Any]]]:
    """What was counted, by stage and then by kind of device; a run directory is called after its stage."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for kind, stages in counts.items():
        for stage in stages:
            found.setdefault(stage["run"], {})[kind] = stage
    return found


def _needed(variants: Sequence[Variant], worker: Worker) -> int:
    """The bytes of the settings as they are; of several such variants the engine takes the first that fits."""
    own: list[int] = [variant["needed"] for variant in variants if not variant["settings"]]
    return next((needed for needed in own if needed <= _memory(worker)), own[-1])


def _fitting(
    variants: Mapping[str, Sequence[Variant]], workers: Sequence[Worker], fits: Sequence[Worker]
) -> dict[str, Any]:
    """The first settings that fit on every worker; else, where it fits on none yet, on the one that has most."""
    groups = [workers] if fits else [workers, [max(workers, key=_memory)]]
    for group in groups:
        found: dict[str, Any] = {}
        for kind, smallest in _smallest(group).items():
            fitting = next((each for each in variants[kind] if each["needed"] <= smallest), None)
            if fitting is None:
                break
            found |= fitting["settings"]
        else:
            return found
    return {}


def _smallest(workers: Sequence[Worker]) -> dict[str, int]:
    """The memory of the smallest worker of each kind."""
    kinds = {worker.kind for worker in workers}
    return {kind: min(_memory(worker) for worker in workers if worker.kind == kind) for kind in sorted(kinds)}


def _memory(worker: Worker) -> int:
    return worker.memory or 0
