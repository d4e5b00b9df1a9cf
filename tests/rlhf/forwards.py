"""Networks under watch: what a machine does to their forward passes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from training.rlhf.networks.policy import Policy
from training.rlhf.networks.scalar_model import ScalarModel


@contextmanager
def forwards_seen(see: Callable[[nn.Module, Tensor, Tensor], Tensor | None]) -> Iterator[None]:
    """A machine whose networks are watched: `see` gets each with its tokens and result, and may give another one."""

    def hook(module: nn.Module, arguments: tuple[Any, ...], result: Any) -> Tensor | None:
        return see(module, arguments[0], result) if isinstance(module, Policy | ScalarModel) else None

    handle = nn.modules.module.register_module_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def dying_at_forward(number: int) -> Iterator[None]:
    """A process that is interrupted in the forward pass of this number."""
    passes = 0

    def see(module: nn.Module, tokens: Tensor, result: Tensor) -> None:
        nonlocal passes
        passes += 1
        if passes == number:
            raise KeyboardInterrupt

    with forwards_seen(see):
        yield
