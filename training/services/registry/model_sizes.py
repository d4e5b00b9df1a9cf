"""Sizes of models as the engine holds them and writes them: in fp32, whatever their files are in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from training.models import ModelVersion

HALF_PRECISION = ("bfloat16", "float16")


def fp32_bytes(model: ModelVersion, shape: Mapping[str, Any]) -> int:
    """The bytes of the weights of a whole model."""
    files = model.manifest.get("files", {})
    stored = sum(facts["size"] for name, facts in files.items() if name.endswith(".safetensors"))
    is_half = shape.get("dtype", shape.get("torch_dtype")) in HALF_PRECISION
    return int(stored * 2 if is_half else stored)


def shape_of(model: ModelVersion) -> dict[str, Any]:
    """What is in the config.json of a model; empty where it cannot be read."""
    try:
        shape = json.loads((model.directory / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}  # the stage that reads it will say so
    return shape if isinstance(shape, dict) else {}
