"""`python -m training.rlhf memory RUN_DIR …`: what stages need at their peaks, without loading a weight."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import endings, memory
from ..config import LearningConfig, RunConfig, load_config
from ..exits import InvalidInput
from ..json_files import write_json
from ..networks import device
from ..networks.transformer import CANNOT_RUN
from . import search
from .peaks import Peak
from .run_count import RunCount
from .search import Variant

GIB = 1 << 30
PARTS = ("weights", "gradients", "optimiser", "cache", "activations", "total")


def show(run_dirs: Sequence[Path], kind: str | None, *, within: int | None, as_json: bool, out: Path | None) -> None:
    """Print the peaks of the stage in each run directory, as tables or as JSON, or write that JSON into `out`.

    Raises InvalidInput; in JSON, why a stage cannot be counted stands in its place.
    """
    kind = kind or device.kind()
    free = device.free_bytes() if kind == device.kind() else None
    if as_json or out:
        found = {"device": kind, "free": free, "stages": [_as_json(each, kind, within) for each in run_dirs]}
        if out:
            write_json(out, found)
        else:
            print(json.dumps(found, indent=1))
        return
    for each in run_dirs:
        cfg, counted = _counted(each, kind, within)
        print(f"{cfg.stage} on {kind}, GiB of tensors at the peak of each moment")
        for variant in counted:
            print("\n".join(["", *filter(None, [_title(variant)]), *table(variant.peaks)]))
    if within is not None:
        print(f"\nto fit into {within / GIB:.2f} GiB")
    elif free is not None:
        print(f"\n{free / GIB:.2f} GiB are free here")


def table(peaks: list[Peak]) -> list[str]:
    """The lines of a table, in GiB. The row with the highest total is marked."""
    highest = max(peaks, key=lambda peak: peak.total)
    lines = [f"  {'':20}" + "".join(f"{part:>13}" for part in PARTS)]
    for peak in peaks:
        numbers = "".join(f"{getattr(peak, part) / GIB:13.2f}" for part in PARTS)
        lines.append(f"{'*' if peak is highest else ' '} {peak.moment:20}{numbers}")
    return lines


def _counted(run_dir: Path, kind: str, within: int | None) -> tuple[RunConfig, list[Variant]]:
    """The stage's config, and what was counted; without `within`, with what is left to auto decided in each way."""
    cfg = load_config(run_dir / "config.json")
    run = RunCount(run_dir, cfg, kind)
    if within is not None:
        return cfg, search.variants(run, cfg, within)
    return cfg, [Variant.of(run, cfg, one) for one in search.decided(cfg, kind)]


def _as_json(run_dir: Path, kind: str, within: int | None) -> dict[str, Any]:
    try:
        cfg, counted = _counted(run_dir, kind, within)
    except (InvalidInput, OSError, *CANNOT_RUN) as error:
        return {"run": run_dir.name, "refusal": endings.describe(error)}
    found = [
        {
            "settings": variant.settings,
            "needed": memory.with_process(variant.highest.total),
            "peaks": [{"moment": peak.moment, **_numbers(peak)} for peak in variant.peaks],
        }
        for variant in counted
    ]
    return {"run": run_dir.name, "stage": cfg.stage, "counted": found}


def _numbers(peak: Peak) -> dict[str, int]:
    return {part: getattr(peak, part) for part in PARTS}


def _title(variant: Variant) -> str:
    """What sets it apart from others of the same run."""
    settings = dict(variant.settings)
    if isinstance(variant.cfg, LearningConfig):
        settings["activation_checkpointing"] = variant.cfg.activation_checkpointing
        if variant.cfg.processes > 1:
            settings["sharding"] = variant.cfg.sharding
    return ", ".join(f"{name} {value}" for name, value in sorted(settings.items()))
