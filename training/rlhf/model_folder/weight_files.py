"""Files of weights, judged by their headers: damaged or quantised ones are found without reading gigabytes."""

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .findings import Finding, block

SUFFIX = ".safetensors"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
LARGEST_HEADER = 100_000_000  # bytes, as the format has it
QUANTISATION = ("quantization_config", "compression_config")
# The dtypes that weights are trained in. Masks and counters have others, but no "weight" in their names.
TRAINABLE = frozenset({"BF16", "F16", "F32", "F64"})
TINY_FLOATS = ("F8", "F4", "F6_")


def named_by(index: Path, findings: list[Finding]) -> list[str]:
    """The files of weights that an index names. Adds to `findings` where it names none, or one in another folder."""
    try:
        shards = sorted(set(json.loads(index.read_text("utf-8-sig"))["weight_map"].values()))
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        shards = []
    if not shards or not all(isinstance(one, str) and one == Path(one).name and one.endswith(SUFFIX) for one in shards):
        sentence = f"{INDEX} does not name the weight files in the folder"
        findings.append(block(sentence, kind="index_unusable", field=INDEX))
        return []
    return shards


def is_whole(path: Path, findings: list[Finding]) -> bool:
    """Whether a file of weights is as long as its header says. Adds to `findings` where it is not."""
    try:
        header, begins = _header(path)
        ends = begins + max([_end_of(facts) for facts in _tensors(header).values()], default=0)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, struct.error):
        sentence = f"{path.name} cannot be read: it is not a safetensors file"
        findings.append(block(sentence, kind="weights_unreadable", field=path.name))
        return False
    if ends == (size := path.stat().st_size):
        return True
    sentence = f"{path.name} has {size} bytes, but its header says {ends}: copy it again"
    findings.append(block(sentence, kind="weights_truncated", field=path.name, size=size, expected=ends))
    return False


def parameters(paths: list[Path]) -> int:
    """How many parameters these files hold."""
    return sum(math.prod(facts["shape"]) for path in paths for facts in _tensors(_header(path)[0]).values())


def quantisation_findings(config: Path | None, weights: list[Path]) -> Iterator[Finding]:
    """A finding where the config, or else the dtypes of the weights, show that they are quantised."""
    if found := _quantisation_of(config) if config else None:
        field, method = found
        yield block(
            f"the weights are quantised ({method}) and cannot be trained: use the unquantised weights",
            kind="quantised",
            field=field,
        )
        return
    for path in weights:
        if tensor := _quantised_tensor(path):
            yield block(
                f"the weights are quantised ({tensor} in {path.name}) and cannot be trained: use the unquantised"
                " weights",
                kind="quantised",
                field=path.name,
            )
            return


def _quantisation_of(config: Path) -> tuple[str, str] | None:
    """The field of a config, or of a part of it, that says that the weights are quantised, and the method."""
    try:
        raw = json.loads(config.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None  # which is a finding of model_files
    parts = [raw, *raw.values()] if isinstance(raw, dict) else []
    for part in parts:
        for field in QUANTISATION:
            if isinstance(part, dict) and (how := part.get(field)):
                return field, str(how.get("quant_method", field) if isinstance(how, dict) else field)
    return None


def _quantised_tensor(path: Path) -> str | None:
    """The name of a weight whose dtype cannot be trained, if there is one."""
    for name, facts in _tensors(_header(path)[0]).items():
        is_weight = "weight" in name.rpartition(".")[2]
        if facts["dtype"].startswith(TINY_FLOATS) or (facts["dtype"] not in TRAINABLE and is_weight):
            return str(name)
    return None


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and the byte at which its tensors begin."""
    with path.open("rb") as source:
        (length,) = struct.unpack("<Q", source.read(8))
        if length > LARGEST_HEADER:
            raise ValueError("the header is too long")
        raw = source.read(length)
    header: dict[str, Any] = json.loads(raw)
    return header, 8 + length


def _end_of(facts: dict[str, Any]) -> int:
    """The byte at which a tensor ends, counted from the first tensor. Raises ValueError for a malformed description."""
    numbers = [*facts["data_offsets"], *facts["shape"]]
    if not isinstance(facts["dtype"], str) or not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise ValueError("a tensor without dtype, shape or offsets")
    end: int = facts["data_offsets"][1]
    return end


def _tensors(header: dict[str, Any]) -> dict[str, Any]:
    return {name: facts for name, facts in header.items() if name != "__metadata__"}
