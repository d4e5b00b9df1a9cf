"""Counts the bytes of all tensors that are alive, operation by operation, whether they hold numbers or not.

Fake tensors have shapes and no numbers. Where the engine asks for a number all the same, for a norm, or whether all
logits are finite, it is told 1, which is what all goes well with.
"""

import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten


class LiveBytes(TorchDispatchMode):
    """While it is entered, `now` is the bytes of the live tensors that it saw, and `peak` the most they have been."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self._sizes: dict[int, int] = {}  # bytes by storage

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        result = _told(func, args)
        if result is None:
            result = func(*_without_masks(func, args), **(kwargs or {}))
            for one in tree_leaves(result):
                if isinstance(one, Tensor):
                    self.add(one)
        return result

    def add(self, tensor: Tensor) -> None:
        """Count a tensor until its storage is freed."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, key)

    @contextmanager
    def highest(self) -> Iterator[list[int]]:
        """Collects, in a list of one, the peak while it is entered."""
        before, self.peak = self.peak, self.now
        found = [0]
        try:
            yield found
        finally:
            found[0] = self.peak
            self.peak = max(before, self.peak)

    def _free(self, key: int) -> None:
        self.now -= self._sizes.pop(key)


def _told(func: Any, args: Any) -> Any:
    """What the engine is told where it asks for a number that a fake tensor does not have; None where it does not."""
    if func is aten._local_scalar_dense.default and isinstance(args[0], FakeTensor):
        return torch.ones((), dtype=args[0].dtype).item()
    return None


def _without_masks(func: Any, args: Any) -> Any:
    """The arguments with indices in place of masks: how long the result is, a fake tensor's mask could not say."""
    if func not in (aten.index.Tensor, aten.index_put.default, aten.index_put_.default):
        return args
    tensor, indices, *others = args
    if not any(isinstance(one, FakeTensor) for one in (tensor, *indices)):
        return args
    places: list[Tensor | None] = []
    for index in indices:
        is_mask = index is not None and index.dtype == torch.bool
        places += _places(index) if is_mask else [index]
    return (tensor, places, *others)


def _places(mask: Tensor) -> tuple[Tensor, ...]:
    """The indices of the places where a mask is True: everywhere, where it is fake."""
    known = torch.ones(mask.shape, dtype=torch.bool) if isinstance(mask, FakeTensor) else mask
    return known.nonzero().unbind(dim=1)
