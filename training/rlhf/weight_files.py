"""Files of weights, by their headers: damaged, missing or quantised ones are found without reading gigabytes."""

import json
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
# Types of numbers that nothing can be trained in. Masks and counters are whole numbers too, but are called no weight.
WHOLE_NUMBERS = frozenset({"I8", "U8", "I16", "U16", "I32", "U32"})
TINY_FLOATS = ("F8", "F4", "F6")


def named_by(index: Path, findings: list[Finding]) -> list[str]:
    """The files of weights that an index names. Adds to `findings` where they are none, or not beside it."""
    try:
        shards = sorted(set(json.loads(index.read_text("utf-8-sig"))["weight_map"].values()))
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        shards = []
    if not shards or not all(isinstance(one, str) and one == Path(one).name and one.endswith(SUFFIX) for one in shards):
        sentence = f"{INDEX} does not name the files of weights beside it"
        findings.append(block(sentence, kind="index_unusable", field=INDEX))
        return []
    return shards


def is_whole(path: Path, findings: list[Finding]) -> bool:
    """Whether a file of weights can be read to its end. Adds to `findings` why not."""
    try:
        header, begins = _header(path)
        ends = begins + max((facts["data_offsets"][1] for facts in _tensors(header).values()), default=0)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, struct.error):
        sentence = f"{path.name} cannot be read: it is no file of safetensors"
        findings.append(block(sentence, kind="weights_unreadable", field=path.name))
        return False
    if ends == (size := path.stat().st_size):
        return True
    sentence = f"{path.name} has {size} bytes where its header speaks of {ends}: copy it again"
    findings.append(block(sentence, kind="weights_truncated", field=path.name, size=size, expected=ends))
    return False


def parameters(paths: list[Path]) -> int:
    """Numbers in these files."""
    count = 0
    for path in paths:
        for facts in _tensors(_header(path)[0]).values():
            numbers = 1
            for length in facts["shape"]:
                numbers *= length
            count += numbers
    return count


def quantised(config: Path | None, weights: list[Path]) -> Iterator[Finding]:
    """Says so where a config, or the weights themselves, speak of numbers that were made coarser to save memory."""
    if found := _spoken_of(config) if config else None:
        field, method = found
        yield block(
            f"the weights are quantised ({method}), and quantised weights cannot be trained: bring the full ones",
            kind="quantised",
            field=field,
        )
        return
    for path in weights:
        if tensor := _quantised_tensor(path):
            yield block(
                f"the weights are quantised ({tensor} in {path.name}), and quantised weights cannot be trained: bring"
                " the full ones",
                kind="quantised",
                field=path.name,
            )
            return


def _spoken_of(config: Path) -> tuple[str, str] | None:
    """The field by which a config, or a part of it, says that the weights are quantised, and the method."""
    try:
        raw = json.loads(config.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None  # which is said elsewhere
    parts = [raw, *raw.values()] if isinstance(raw, dict) else []
    for part in parts:
        for field in QUANTISATION:
            if isinstance(part, dict) and (how := part.get(field)):
                return field, str(how.get("quant_method", field) if isinstance(how, dict) else field)
    return None


def _quantised_tensor(path: Path) -> str | None:
    """The name of a weight that is stored in numbers too coarse to be trained, if there is one."""
    for name, facts in _tensors(_header(path)[0]).items():
        is_weight = "weight" in name.rpartition(".")[2]
        if facts["dtype"].startswith(TINY_FLOATS) or (facts["dtype"] in WHOLE_NUMBERS and is_weight):
            return str(name)
    return None


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """What a file of safetensors says of itself, and where its numbers begin."""
    with path.open("rb") as source:
        (length,) = struct.unpack("<Q", source.read(8))
        if length > LARGEST_HEADER:
            raise ValueError("the header is too long")
        raw = source.read(length)
    header: dict[str, Any] = json.loads(raw)
    return header, 8 + length


def _tensors(header: dict[str, Any]) -> dict[str, Any]:
    return {name: facts for name, facts in header.items() if name != "__metadata__"}
