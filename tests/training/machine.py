"""A project that can train within seconds: a tiny random base model, a few labels, and short stages."""

from __future__ import annotations

import copy
import itertools
import json
import shutil
from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.utils import timezone

from annotate.models import Kind, Member, Project, Prompt
from annotate.services import demonstrations, prompts, rankings, slates, work
from annotate.services.slates import NewCompletion, NewSlate
from training import runner, stages
from training.models import Adoption, ModelVersion, Run, Snapshot, TrainingSettings
from training.presets import for_size
from training.rlhf.run import manifest
from training.services.registry import adoptions, base_models, model_folders
from training.services.run_files import directories

_numbers = itertools.count(1)

BASE = "random"  # the folder of BASE_MODELS_DIR
SHORT = {"max_response": 8, "checkpoint_seconds": 0, "threads": 1, "dtype": "fp32"}
OVERRIDES = {
    "sft": {**SHORT, "epochs": 2, "batch_size": 4, "learning_rate": 1e-3},
    "reward": {**SHORT, "batch_size": 4, "learning_rate": 1e-3},
    "watcher": {**SHORT, "batch_size": 4, "learning_rate": 1e-3},
    # No trial: models that have learnt so little do not agree on an answer.
    "ppo": {**SHORT, "iterations": 3, "rollout_size": 4, "minibatch_size": 4, "kl_limit": 1000.0, "trial_answers": 0},
    "evaluation": {"max_response": 8, "threads": 1, "draws": 2, "dtype": "fp32"},
    "sampling": {"max_response": 8, "threads": 1, "dtype": "fp32"},
}
REPORT: dict[str, Any] = {
    "schema": 1,
    "fits": True,
    "files": [{"name": "config.json", "bytes": 600}, {"name": "model.safetensors", "bytes": 240_000}],
    "ignored": ["README.md"],
    "architecture": "LlamaForCausalLM",
    "parameters": 1_100_000_000,
    "context": 2048,
    "context_source": "config",
    "width": 2048,
    "vocabulary": 32_000,
    "template": {"own": True, "system": True, "alternates": False, "begins_with_assistant": True, "date": None,
                 "opens_thought": False, "hash": "0" * 64},
    "memory": {"sft": 20_000_000_000, "ppo": 48_000_000_000},
    "selftest": {},
    "findings": [],
}  # fmt: skip


ROUND_STAGES = [str(stage.name) for stage in stages.DEFINITIONS if stage.plan]  # in the order in which they run


def make_settings(project: Project, **fields: object) -> TrainingSettings:
    """Training settings with minima that a test reaches."""
    small = {
        "base_model": BASE,
        "completions_per_slate": 4,
        "demonstrations_minimum": 2,
        "rankings_minimum": 3,
        "slates_per_round": 6,
        "overrides": copy.deepcopy(OVERRIDES),  # a test may change its own
    }
    if fields.get("base_model") != TrainingSettings.TINY:
        small["preset"] = for_size(REPORT["parameters"]).name  # what the base model brings
    return TrainingSettings.objects.create(**{"project": project, **small, **fields})


def make_base(project: Project) -> ModelVersion:
    """The project's folder of BASE_MODELS_DIR as its base model, as if a worker had examined it."""
    adopt(TrainingSettings.objects.get(project=project).base_model)
    base_models.register(project)
    return ModelVersion.objects.get(project=project, kind=ModelVersion.Kind.BASE)


def adopt(folder: str, **facts: Any) -> Adoption:
    """What a worker leaves that finds nothing wrong with the folder; `facts` go into its report."""
    adoption = Adoption.objects.create(folder=folder, fingerprint=model_folders.inspect(folder).fingerprint)
    taken = adoptions.claim(adoption.pk, worker="default@test")
    assert taken
    out = taken.directory.with_name(f"out-{taken.pk}")
    with manifest.sealed(out, lambda: None) as draft:
        for path in manifest.hashed_files(model_folders.path_of(folder)):
            shutil.copyfile(path, draft / path.name)
    report = REPORT | {"sha256": manifest.manifest_sha256(out)} | facts
    adoptions.adopt(taken, report, out)
    return taken


def make_snapshot(project: Project) -> Snapshot:
    """A snapshot row of now, without files."""
    return Snapshot.objects.create(project=project, files={}, counts={}, sha256="0" * 64)


def make_model(project: Project, kind: str, **fields: object) -> ModelVersion:
    """A model's row, without weights."""
    number = ModelVersion.objects.next_number(project, kind)
    values = {"project": project, "kind": kind, "number": number, "manifest_sha256": "0" * 64}
    return ModelVersion.objects.create(**values | fields)


def make_adapter(base: ModelVersion, kind: str, *, rank: int = 16, alpha: float = 32.0, **fields: Any) -> ModelVersion:
    """An adapter that stands on `base`, with the two files that the platform reads."""
    config = {"adapter_rank": rank, "adapter_alpha": alpha}
    values = {"parent": base, "stands_on": base, "config": config} | fields
    adapter = make_model(base.project, kind, **values)
    adapter.directory.mkdir(parents=True)
    (adapter.directory / "base.json").write_text(json.dumps({"manifest_sha256": base.manifest_sha256}), "utf-8")
    (adapter.directory / "adapter_model.safetensors").write_bytes(b"adapter" * 100)
    return adapter


def write_demonstrations(annotator: Member, number: int) -> None:
    """`number` answers; each to a new prompt, or to one that the project still wants answered."""
    for index in range(number):
        while (claim := work.claim(annotator.project, annotator=annotator, kind=Kind.DEMONSTRATION)).assignment is None:
            make_prompts(annotator.project, 1)  # which may be held out
        demonstrations.submit(claim.assignment, submission_id=uuid4(), text=f"Behind house {index}.")


def make_prompts(project: Project, number: int) -> list[Prompt]:
    """`number` new prompts; what is held out is decided by the project's share."""
    return [prompts.add_one(project, {"text": f"What is number {next(_numbers)}?"})[0] for _ in range(number)]


def rank_new_slates(annotator: Member, number: int, *, tied: bool = False) -> None:
    """`number` rankings of answers that were made elsewhere, the shorter one first."""
    for prompt in make_prompts(annotator.project, number):
        texts = [NewCompletion("Yes."), NewCompletion(f"No, it is {next(_numbers)}.")]
        slates.add_many(annotator.project, [NewSlate(prompt, texts)])
    rank_what_waits(annotator, tied=tied)


def rank_what_waits(annotator: Member, *, tied: bool = False) -> None:
    """Rank every slate in the queue, the first completion best."""
    while assignment := work.claim(annotator.project, annotator=annotator, kind=Kind.RANKING).assignment:
        order = sorted(assignment.card_order)
        places = {pk: 1 if tied else place for place, pk in enumerate(order, 1)}
        rankings.submit(assignment, submission_id=uuid4(), places=places)


def queue_run(project: Project, stage: str = "sft", **fields: object) -> Run:
    """A run that waits, whose engine is never started."""
    return Run.objects.create(project=project, stage=stage, **fields)


def let_lease_end(run: Run) -> None:
    """The run's worker was last heard of long ago, and has been doubted for long."""
    hour = timedelta(hours=1)
    Run.objects.filter(pk=run.pk).update(lease_until=timezone.now() - hour, doubted_at=timezone.now() - hour)


def write_output(run: Run, files: dict[str, str]) -> None:
    """What an engine leaves that has done `run`."""
    attempt = directories.attempt(run.directory, run.fence)
    with manifest.sealed(attempt / "output", lambda: None) as draft:
        for name, text in files.items():
            (draft / name).write_text(text, "utf-8")
    (run.directory / "config.json").write_text("{}", "utf-8")


def work_off(*, worker: str = "gpu@test") -> None:
    """What a gpu worker does, in this process: take the queued runs in their order, see each through."""
    while run := Run.objects.filter(status=Run.Status.QUEUED).order_by("pk").first():
        runner.supervise(run.pk, owner=worker)
