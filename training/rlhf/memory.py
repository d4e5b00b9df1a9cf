"""Memory that runs out: how such an error is recognised, how much a stage needs, and what to do about it.

Imports no torch, because the supervisor needs the same where the kernel killed an engine.
"""

import dataclasses
import errno
import re
from pathlib import Path
from typing import TypeVar

from .config import STAGES, RunConfig

LOGITS_COPIES = 4  # of (tokens, vocabulary) in fp32, while a loss is computed
PROCESS_BYTES = 600_000_000  # an engine that has loaded nothing yet
ALLOCATOR_SHARE = 1.1  # of the bytes of all tensors, that an allocator takes for them
ACTIVATIONS_A_LAYER = 64  # of (tokens, width), that a layer keeps for its gradient; few keep more than half as many
MEMORY = Path("/proc/meminfo")
# A process that starts with it gets its memory in huge pages. In small ones, the system takes so long to clear and to
# find it that a small network samples a tenth less. Read by glibc from 2.35 on.
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
CONTAINER = Path("/sys/fs/cgroup")  # its limits, as it sees them itself

C = TypeVar("C", bound=RunConfig)

# torch has an exception of its own for one of these cases; the others are known by their message only.
OUT_OF_MEMORY_MESSAGES = re.compile(
    r"out of memory|can(?:'t|not) allocate memory"
    r"|(?:CUBLAS|CUDNN|CUSOLVER|CUSPARSE)_STATUS_\w*ALLOC(?:ATION)?_FAILED"
    # Where the GPU is out of memory and NVML cannot be asked how much is in use.
    r"|NVML_SUCCESS == .*CUDACachingAllocator",
    re.DOTALL,
)


def ran_out(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or on the CPU."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and bool(OUT_OF_MEMORY_MESSAGES.search(str(error)))
    )


def peak_bytes(parameters: int, vocabulary: int) -> dict[str, int]:
    """Bytes that each stage needs at most, roughly: weights and optimiser in fp32, a full batch."""
    logits = logits_bytes(RunConfig.batch_tokens, vocabulary)
    return {
        stage: cfg.weights_held * parameters * 4 + logits + PROCESS_BYTES
        for stage, cfg in STAGES.items()
        if cfg.weights_held
    }


def logits_bytes(batch_tokens: int, vocabulary: int) -> int:
    """Bytes of the logits of a full batch, in fp32."""
    return batch_tokens * vocabulary * 4 * LOGITS_COPIES


def activation_bytes(tokens: int, layers: int, width: int) -> int:
    """Bytes, at most, of what layers keep of so many tokens for the gradient, in fp32."""
    return tokens * layers * width * 4 * ACTIVATIONS_A_LAYER


def with_process(counted: int) -> int:
    """The bytes that a process takes whose tensors take so many."""
    return int(counted * ALLOCATOR_SHARE) + PROCESS_BYTES


def fits(counted: int, free: int) -> bool:
    """Whether a stage whose tensors take so many bytes fits into so many free ones."""
    return with_process(counted) <= free


def free_bytes() -> int | None:
    """The bytes that Linux could give to a new process without swapping, within a container's limit; None if unknown.

    Of the memory of the machine, and not of its graphics cards.
    """
    free = [found for found in (_available(), _left_in_container()) if found is not None]
    return min(free, default=None)


def _available() -> int | None:
    try:
        lines = dict(line.split(":", 1) for line in MEMORY.read_text("utf-8").splitlines() if ":" in line)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, LookupError):
        return None


def _left_in_container() -> int | None:
    try:
        limit, used = (int((CONTAINER / f"memory.{name}").read_text("utf-8")) for name in ("max", "current"))
    except (OSError, ValueError):  # "max": there is no limit
        return None
    return max(0, limit - used)


def halved(cfg: C) -> C:
    """The config of a stage that goes on with half the micro-batch, and half the cache of answers."""
    halves = {name: max(1, getattr(cfg, name) // 2) for name in ("batch_tokens", "cache_mb") if hasattr(cfg, name)}
    return dataclasses.replace(cfg, **halves)


def advice(cfg: RunConfig) -> str:
    """What to do where `cfg`, which was halved already, needs too much memory as well."""
    shorter = ", or lower max_response" if hasattr(cfg, "max_response") else ""
    return f"out of memory even with half the batch_tokens: set batch_tokens below {cfg.batch_tokens}{shorter}"
