"""Hooks on the forward passes of all networks, to watch them, change their results or interrupt them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from training.rlhf.networks.policy import Policy
from training.rlhf.networks.scalar_model import ScalarModel


@contextmanager
def forward_hook(see: Callable[[nn.Module, Tensor, Tensor], Tensor | None]) -> Iterator[None]:
    """Call `see` with each network, its tokens and its result, after every forward pass; it may return another."""

    def hook(module: nn.Module, arguments: tuple[Any, ...], result: Any) -> Tensor | None:
        return see(module, arguments[0].tokens, result) if isinstance(module, Policy | ScalarModel) else None

    handle = nn.modules.module.register_module_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def interrupted_at_forward(number: int) -> Iterator[None]:
    """Raise KeyboardInterrupt in the forward pass with this number, counted from 1."""
    passes = 0

    def see(module: nn.Module, tokens: Tensor, result: Tensor) -> None:
        nonlocal passes
        passes += 1
        if passes == number:
            raise KeyboardInterrupt

    with forward_hook(see):
        yield
