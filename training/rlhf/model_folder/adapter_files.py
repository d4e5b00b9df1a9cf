"""An adapter directory: what LoRA training writes in place of a whole model. Imports no torch.

adapter_config.json, adapter_model.safetensors   the adapter, as peft and other programs read it
base.json                                        the manifest hash of the whole model that it stands on
config.json and the tokenizer's files            those of that model; a reward model has its head and its card as well
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..exits import InvalidInput
from . import model_files

CONFIG = model_files.ADAPTER
WEIGHTS = "adapter_model.safetensors"
BASE = "base.json"


class Shape(NamedTuple):
    """The size of an adapter, and its weight: its product counts alpha / rank times."""

    rank: int
    alpha: float


def is_adapter(directory: Path) -> bool:
    """Whether a model directory holds an adapter and no whole model."""
    return (directory / BASE).is_file()


def base_sha256(directory: Path) -> str:
    """The manifest hash of the whole model that an adapter stands on. Raises InvalidInput."""
    name = _read(directory / BASE).get("manifest_sha256")
    if not isinstance(name, str):
        raise unusable(directory, f"{BASE} does not name its base")
    return name


def shape_of(directory: Path) -> Shape:
    """The shape of a directory's adapter. Raises InvalidInput."""
    config = _read(directory / CONFIG)
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not (isinstance(rank, int) and rank > 0 and isinstance(alpha, int | float) and alpha > 0):
        raise unusable(directory, f"{CONFIG} has no rank or no alpha")
    return Shape(rank, float(alpha))


def layers_of(directory: Path) -> list[str]:
    """The names of the layers beside which a directory's adapter stands. Raises InvalidInput."""
    layers = _read(directory / CONFIG).get("target_modules")
    if not (isinstance(layers, list) and layers and all(isinstance(one, str) for one in layers)):
        raise unusable(directory, f"{CONFIG} does not name its layers")
    return layers


def write(directory: Path, shape: Shape, layers: Sequence[str], base: str, *, transposed: bool) -> None:
    """Write what is to be known about an adapter beside the layers of these names; `transposed` is peft's."""
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": shape.rank,
        "lora_alpha": shape.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": transposed,
        "target_modules": sorted(layers),
    }
    (directory / CONFIG).write_text(json.dumps(config, indent=1), "utf-8")
    (directory / BASE).write_text(json.dumps({"manifest_sha256": base}), "utf-8")


def unusable(directory: Path, fault: str) -> InvalidInput:
    """The refusal of an adapter directory."""
    return InvalidInput(f"the adapter {directory.name} cannot be used: {fault}", kind="adapter_files")


def _read(path: Path) -> dict[str, Any]:
    try:
        return model_files.read_object(path)
    except InvalidInput as error:
        raise unusable(path.parent, str(error)) from error
