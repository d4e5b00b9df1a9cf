"""The lines that a part of benchmarks/gpu.py prints: one JSON object for each measurement, as soon as it is there."""

import json
from typing import Any

import torch

from benchmarks.speed.profiling import peak_mib

Record = dict[str, Any]

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # where the engine's networks live, too


def emit(measurement: str, **figures: Any) -> None:
    """Print a line. Four digits are more than a measurement gives."""
    rounded = {name: float(f"{one:.4g}") if isinstance(one, float) else one for name, one in figures.items()}
    print(json.dumps({"measurement": measurement, **rounded}), flush=True)


def peak_memory() -> Record:
    """The most memory since it was reset; that of a process without a GPU is never reset."""
    if not torch.cuda.is_available():
        return {"peak_process_mib": peak_mib()}
    return {
        "peak_allocated_mib": torch.cuda.max_memory_allocated() / 2**20,
        "peak_reserved_mib": torch.cuda.max_memory_reserved() / 2**20,
    }
