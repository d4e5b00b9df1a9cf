"""`python -m training.rlhf memory RUN_DIR`: what a run's stage needs at its peaks, without loading a weight."""

import dataclasses
import json
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

from transformers import AutoConfig

from ..config import LearningConfig, RunConfig, load_config
from ..data.chat import Chat
from ..exits import InvalidInput
from ..networks import device
from . import longest, stages
from .peaks import Peak

C = TypeVar("C", bound=LearningConfig)

GIB = 1 << 30
PARTS = ("weights", "gradients", "optimiser", "cache", "activations", "total")


def count_run(run_dir: Path, cfg: RunConfig, kind: str) -> list[Peak]:
    """The peaks of the stage in a run directory, on a device of this kind; of its models only the configs are read.

    Raises InvalidInput where its records or parents cannot be read.
    """
    directories = {role: run_dir / parent.path for role, parent in cfg.parents.items()}
    if not directories:
        raise InvalidInput(f"{cfg.stage} starts from no model, so its memory is not counted", kind="config")
    chat = Chat.load(directories["base" if "base" in directories else "policy"])
    try:
        models = {
            role: AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
            for role, directory in directories.items()
        }
    except (OSError, ValueError) as error:
        raise InvalidInput(f"a parent's config.json cannot be read: {error}", kind="model_files") from error
    return stages.count(cfg, models, chat, longest.of_run(run_dir, cfg, chat), kind)


def variants(cfg: C, *, on_accelerator: bool) -> list[C]:
    """The config with each auto decided, in each way: what is faster comes first, what takes less memory last.

    Nothing is sharded with one process, nor, where it is left to the memory, on a CPU, whose processes share theirs.
    """
    sharding = {"auto": ("off", "on") if on_accelerator else ("off",)}.get(cfg.sharding, (cfg.sharding,))
    recomputing = {"auto": ("off", "on")}.get(cfg.activation_checkpointing, (cfg.activation_checkpointing,))
    return [
        dataclasses.replace(cfg, sharding=shards, activation_checkpointing=recomputes)
        for shards, recomputes in product(sharding if cfg.processes > 1 else ("off",), recomputing)
    ]


def show(run_dir: Path, kind: str | None, *, as_json: bool) -> None:
    """Print the peaks, as a table or as JSON. Raises InvalidInput."""
    cfg, kind = load_config(run_dir / "config.json"), kind or device.kind()
    free = device.free_bytes() if kind == device.kind() else None
    choices = variants(cfg, on_accelerator=kind != "cpu") if isinstance(cfg, LearningConfig) else [cfg]
    counted = {_title(one): count_run(run_dir, one, kind) for one in choices}
    if as_json:
        print(json.dumps(_as_json(cfg, kind, free, counted), indent=1))
        return
    print(f"{cfg.stage} on {kind}, GiB of tensors at the peak of each moment")
    for title, peaks in counted.items():
        print("\n".join(["", title, *table(peaks)] if title else ["", *table(peaks)]))
    if free is not None:
        print(f"\n{free / GIB:.2f} GiB are free here")


def table(peaks: list[Peak]) -> list[str]:
    """The lines of a table, in GiB. The row with the highest total is marked."""
    highest = max(peaks, key=lambda peak: peak.total)
    lines = [f"  {'':20}" + "".join(f"{part:>13}" for part in PARTS)]
    for peak in peaks:
        numbers = "".join(f"{getattr(peak, part) / GIB:13.2f}" for part in PARTS)
        lines.append(f"{'*' if peak is highest else ' '} {peak.moment:20}{numbers}")
    return lines


def _as_json(cfg: RunConfig, kind: str, free: int | None, counted: dict[str, list[Peak]]) -> dict[str, Any]:
    return {
        "stage": cfg.stage,
        "device": kind,
        "free": free,
        "counted": [
            {"setting": title, "peaks": [{"moment": peak.moment, **_numbers(peak)} for peak in peaks]}
            for title, peaks in counted.items()
        ],
    }


def _numbers(peak: Peak) -> dict[str, int]:
    return {part: getattr(peak, part) for part in PARTS}


def _title(cfg: RunConfig) -> str:
    if not isinstance(cfg, LearningConfig):
        return ""
    title = f"activation_checkpointing {cfg.activation_checkpointing}"
    return f"{title}, sharding {cfg.sharding}" if cfg.processes > 1 else title
