"""Where the networks live, and whose rules they follow: those of an accelerator, or those of a CPU.

Both are one machine's, unless memory is counted for another one; see `following`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import nn

from .. import memory

KINDS = ("cuda", "cpu")

_followed: ContextVar[str | None] = ContextVar("followed", default=None)


def default_device() -> torch.device:
    """Where the networks live: the first GPU, else the CPU; the CPU while the rules are those of another machine."""
    is_gpu = torch.cuda.is_available() and _followed.get() is None
    return torch.device("cuda" if is_gpu else "cpu")


def kind() -> str:
    """The kind of device whose rules hold, one of KINDS."""
    return _followed.get() or default_device().type


def on_accelerator() -> bool:
    """Whether the rules are those of an accelerator."""
    return kind() != "cpu"


def place(module: nn.Module) -> None:
    """Move a module to where the networks live, unless it is there."""
    target = default_device()
    if any(parameter.device.type != target.type for parameter in module.parameters()):
        module.to(target)


def free_bytes() -> int | None:
    """Free bytes of the memory that networks live in, with those that this process holds and does not use."""
    if not on_accelerator():
        return memory.free_bytes()
    free: int = torch.cuda.mem_get_info()[0]
    return free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()


@contextmanager
def following(kind: str) -> Iterator[None]:
    """Follow the rules of this kind of device while tensors live on the CPU: to count memory without the device."""
    token = _followed.set(kind)
    try:
        yield
    finally:
        _followed.reset(token)
