"""Memory counts: a worker counts what each stage of a planned round needs at its peak, without its weights.

A count belongs to the base model, the settings, the models that stages start from, the kinds of device and the labels.
The engine also looks for the settings with which a stage would fit; see training/rlhf/memory_count/search.py.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from annotate.models import Project
from training import stages
from training.models import Examination, ModelVersion, TrainingSettings, Worker
from training.rlhf.config import Parent, RunConfig, to_json, trunk_role
from training.rlhf.model_folder import adapter_files
from training.rlhf.model_folder.adapter_files import Shape
from training.rlhf.run.manifest import MANIFEST
from training.services.labels import snapshots
from training.services.planning import adapters, examinations, plans
from training.services.planning.adapters import Weights
from training.services.planning.plans import Plan
from training.services.registry import configs
from training.services.run_files import directories
from training.stages import Makes

SCHEMA = 2  # of the counts; what was counted under another one is counted again
# No field on which memory depends; nor does it on a rate, which are the floats.
IRRELEVANT = ("seed", "parents", "threads", "checkpoint_seconds", "epochs", "iterations", "shown_samples")

Configs = Mapping[str, RunConfig]  # by stage
Parents = Mapping[str, Mapping[str, Weights]]  # by stage and role


def key_of(
    project: Project, base: ModelVersion, stage_configs: Configs, parents: Parents, workers: Iterable[Worker]
) -> str:
    """Stays the same as long as the stages need as much memory, but for other labels in its second half."""
    relevant = {stage: _relevant(config) for stage, config in stage_configs.items()}
    return examinations.make_key(project, [SCHEMA, base.manifest_sha256, devices(workers), relevant, _pattern(parents)])


def devices(workers: Iterable[Worker]) -> dict[str, int]:
    """The kinds of device that `workers` compute on, and the bytes within which settings are looked for.

    These are the memory of the smallest worker, rounded down to a power of two: what is free on a CPU changes all the
    time, and no count is made anew for that.
    """
    smallest: dict[str, int] = {}
    for worker in workers:
        if worker.memory:
            smallest[worker.kind] = min(worker.memory, smallest.get(worker.kind, worker.memory))
    return {kind: 1 << (memory.bit_length() - 1) for kind, memory in sorted(smallest.items())}


def make_configs(plan: Plan, training: TrainingSettings, base: ModelVersion) -> dict[str, RunConfig]:
    """The config of each stage of `plan` that runs, as if all of its parents were the base. Raises BadSettings."""
    return {
        stage.stage: configs.make(
            training, stage.stage, round_number=plan.number, parents=dict.fromkeys(stage.parents, base)
        )
        for stage in plan.stages
        if stage.will_run
    }


def write_runs(examination: Examination, workers: Iterable[Worker], directory: Path) -> list[Path]:
    """Write a run directory below `directory` for each stage of the plan that runs; none if the plan is another by now.

    Raises BadSettings.
    """
    project = examination.project
    plan, training = plans.draft(project), TrainingSettings.objects.get(project=project)
    base = ModelVersion.objects.bases().filter(project=project).first()
    stage_configs = make_configs(plan, training, base) if base else {}
    parents = adapters.weights_of_parents(plan, stage_configs, adapters.existing(plan))
    if base is None or not examination.is_about(key_of(project, base, stage_configs, parents, workers)):
        return []
    gathered = snapshots.gather(project).records
    for name, config in stage_configs.items():
        records = {file: gathered[file] for file in [config.examined_records] if file}
        if stages.find(name).makes is Makes.SLATES:
            records["prompts"] = plans.prompts_to_answer(project, plan.stage(name), number=plan.number)
        config = dataclasses.replace(config, parents=_parents(parents[name], base, directory))
        directories.write(directory / name, config, data={}, records=records)
    return [directory / name for name in stage_configs]


def _parents(weights: Mapping[str, Weights], base: ModelVersion, directory: Path) -> dict[str, Parent]:
    """The parents of a stage to count it with: all of the base's shape, and alike where they share their weights.

    Some of them are made in the round only, so an adapter has a directory below `directory` that says its shape.
    """
    parents = {}
    for role, (whole, shape) in weights.items():
        parents[role] = Parent(path=str(base.directory), manifest_sha256=whole)
        if shape:
            parents[trunk_role(role)] = parents[role]
            path = _adapter_directory(base, shape, directory)
            parents[role] = Parent(path=str(path), manifest_sha256=f"adapter of {whole}")
    return parents


def _adapter_directory(base: ModelVersion, shape: Shape, directory: Path) -> Path:
    """An adapter of the base without its matrices."""
    path = directory / f"adapter-{shape.rank}-{shape.alpha:g}"
    if not path.exists():
        without_weights = shutil.ignore_patterns("*.safetensors", "*.safetensors.index.json", MANIFEST)
        shutil.copytree(base.directory, path, ignore=without_weights)
        adapter_files.write(path, shape, [], base.manifest_sha256, transposed=False)
    return path


def _pattern(parents: Parents) -> dict[str, dict[str, Any]]:
    """Which parents share weights and which are adapters, whatever they are called."""
    numbers: dict[str, int] = {}
    return {
        stage: {role: [numbers.setdefault(whole, len(numbers)), shape] for role, (whole, shape) in roles.items()}
        for stage, roles in parents.items()
    }


def _relevant(config: RunConfig) -> dict[str, Any]:
    fields = to_json(config).items()
    return {name: value for name, value in fields if name not in IRRELEVANT and not isinstance(value, float)}
