"""Files of a run as its engine writes them, for tests that need no engine."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from annotate.models import Project
from training.models import ModelVersion, Run
from training.presets import TINY
from training.rlhf.config import parse, to_json
from training.rlhf.run import origin_file
from training.rlhf.run.manifest import sealed
from training.services.run_files import directories
from training.stages import Stage

PARENTS = {"sft": ["base"], "reward": ["policy"], "ppo": ["policy", "reference", "reward"], "sampling": ["policy"]}
WEIGHTS = "weights of the parent"


def make_run(project: Project, stage: str = Stage.PPO, **fields: Any) -> Run:
    """A run with the directory that the platform writes; its parents are one small model."""
    run = Run(**{"project": project, "stage": stage} | fields)
    parent = make_parent(project)
    pointer = {"path": f"../../models/{parent.uuid}", "manifest_sha256": parent.manifest_sha256}
    raw = {"schema": 1, "stage": stage, "seed": 7, "threads": 2} | dict(TINY.values[stage])
    config = parse(raw | {"parents": dict.fromkeys(PARENTS.get(stage, []), pointer)})
    directories.write(run.directory, config, data={}, records={"prompts": [{"id": 1, "messages": []}]})
    assert to_json(config)["schema"] == 1
    run.save()
    return run


def make_parent(project: Project) -> ModelVersion:
    """A model with files, so that its hash can be checked."""
    model = ModelVersion(project=project, kind="base", number=ModelVersion.objects.next_number(project, "base"))
    with sealed(model.directory, lambda: None) as draft:
        (draft / "weights.txt").write_text(WEIGHTS, "utf-8")
    model.manifest_sha256 = json.loads((model.directory / "manifest.json").read_text("utf-8"))["sha256"]
    model.save()
    return model


def attempt(run: Run, fence: int | None = None) -> Path:
    """The folder of an attempt, made."""
    folder = directories.attempt(run.directory, run.fence if fence is None else fence)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_metrics(run: Run, rows: Iterable[dict[str, float]], *, fence: int | None = None, total: int = 40) -> None:
    """One line for each of `rows`, from step 1 on."""
    lines = [
        json.dumps({"step": step, "total": total, "time": 0.0, "metrics": row}) + "\n"
        for step, row in enumerate(rows, 1)
    ]
    (attempt(run, fence) / "metrics.jsonl").write_text("".join(lines), "utf-8")


def write_times(run: Run, seconds_ago: list[float], *, fence: int | None = None, total: int = 40) -> None:
    """A line for each step from 1 on, written so many seconds ago; the attempt began before all of them."""
    now = time.time()
    lines = [
        json.dumps({"step": step, "total": total, "time": now - ago, "metrics": {}}) + "\n"
        for step, ago in enumerate(seconds_ago, 1)
    ]
    (attempt(run, fence) / "metrics.jsonl").write_text("".join(lines), "utf-8")


def begin_attempt(run: Run, seconds_ago: float, *, fence: int | None = None) -> None:
    """What a supervisor leaves that started an engine so many seconds ago."""
    said = attempt(run, fence) / directories.ENVIRONMENT
    said.write_text("{}", "utf-8")
    os.utime(said, (time.time() - seconds_ago,) * 2)


def write_origin(run: Run, *, fence: int | None = None, **facts: Any) -> None:
    """What an engine leaves that computed on one GPU for 73 seconds, from the first attempt on."""
    gpu = {"name": "Tensor Works T1", "memory_bytes": 80 * 2**30}
    origin = {
        "schema": origin_file.SCHEMA,
        "code": {"version": "0.1.0", "commit": "c0ffee" * 6, "is_changed": False, "sha256": "5" * 64},
        "versions": {"python": "3.11.2", "torch": "2.13.0", "transformers": None},
        "hardware": {"cpu": "Abacus 9", "instructions": "AVX2", "threads": 2, "gpus": [gpu], "driver": "570.1"},
        "earlier": [],
        "wall_s": 73.2,
        "exit": origin_file.DONE,
    }
    (attempt(run, fence) / origin_file.FILE).write_text(json.dumps(origin | facts), "utf-8")


def ppo_metrics(steps: int) -> list[dict[str, float]]:
    """Numbers such as a PPO run measures."""
    return [
        {
            "rollout/reward": -0.2 + step * 0.04 + (step * 37 % 11) * 0.03,
            "rollout/kl": step * 0.09 + (step * 13 % 5) * 0.05,
            "rollout/length": 38 + step * 29 % 7,
            "rollout/stop_rate": 0.93 + step * 0.001,
            "rollout/entropy": 2.4 - step * 0.01,
            "policy/loss": -0.01 * (step % 3),
            "policy/approx_kl": 0.004 + 0.001 * (step % 4),
            "policy/clip_fraction": 0.02 + 0.005 * (step % 6),
            "value/explained_variance": 0.2 + step * 0.01,
            "skipped_steps": 0,
        }
        for step in range(steps)
    ]


def watched_metrics(steps: int, *, every: int = 5) -> list[dict[str, float]]:
    """The same of a PPO run with a watcher, which liked step 10 best; KL falls again at the end."""
    rows = ppo_metrics(steps)
    for step in range(every, steps + 1, every):
        rows[step - 1] |= {
            "gauge/watcher": 0.4 - 0.02 * abs(step - 10),
            "gauge/reward": 0.05 * step,
            "gauge/kl": 0.01 * step * (28 - step),
            "gauge/length": 38 + 0.5 * step,
            "gauge/stop_rate": 0.93 + 0.002 * step,
            "gauge/best_step": min(step, 10),
        }
    return rows


def write_checkpoint(run: Run, step: int, *, fence: int | None = None) -> Path:
    """A checkpoint that verifies."""
    target = attempt(run, fence) / "checkpoints" / f"step-{step:06d}"
    with sealed(target, lambda: None) as draft:
        (draft / "state.json").write_text(json.dumps({"step": step}), "utf-8")
    return target


def write_samples(run: Run, step: int, *, fence: int | None = None, prompt_id: str = "1", number: int = 3) -> None:
    """Samples of a PPO step, the first with the lowest reward and the last the furthest from the reference."""
    rows = [
        {
            "prompt_id": prompt_id,
            "messages": [{"role": "user", "content": f"What helps against number {place}?"}],
            "text": f"Rest, and drink water {place}.",
            "n_tokens": 12 + place,
            "finish_reason": "length" if place == 1 else "stop",
            "reward": place - 1.0,
            "kl": 0.5 * place,
            "reference_text": f"Nobody knows {place}.",
            "reference_reward": -0.25,
        }
        for place in range(number)
    ]
    folder = attempt(run, fence) / "samples"
    folder.mkdir(exist_ok=True)
    (folder / f"step-{step:06d}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
