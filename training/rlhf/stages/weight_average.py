"""A moving average of the policy's weights, which wander less than the policy does from step to step."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .. import sharding
from ..networks.policy import Policy
from ..run.checkpoint import Checkpoint, Tensors, copied_to_cpu, module_tensors, restore_module, restore_tensors


class WeightAverage:
    """The exponential moving average over iterations: average <- decay * average + (1 - decay) * weights.

    Ouyang et al. 2022, appendix C.4, with a decay of 0.992. It starts as the policy is, and has the precision of the
    weights that train. Of adapters, their factors are averaged. It lives on the CPU.
    """

    def __init__(self, policy: Policy, decay: float) -> None:
        self._policy, self._decay = policy, decay
        self._average = copied_to_cpu(policy)

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now."""
        for name, tensor in module_tensors(self._policy).items():
            average = sharding.own_part(self._average[name])
            average.lerp_(sharding.own_part(tensor).to(average.device), 1 - self._decay)

    def start_over(self) -> None:
        """Forget what was averaged: the average is the policy as it is now."""
        restore_tensors(self._average, module_tensors(self._policy))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The policy has the averaged weights meanwhile. They change places: there is no room for another copy."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def put_in(self) -> None:
        """Give the policy the averaged weights."""
        restore_module(self._policy, self._average)

    def tensors(self) -> dict[str, Tensors]:
        """What a checkpoint has to hold, by group."""
        return {"average": self._average}

    def restore(self, saved: Checkpoint) -> None:
        """Continue from a checkpoint."""
        restore_tensors(self._average, saved.tensors("average"))

    @torch.no_grad()
    def _swap(self) -> None:
        for name, tensor in module_tensors(self._policy).items():
            own, average = sharding.own_part(tensor), sharding.own_part(self._average[name])
            kept = own.clone()
            own.copy_(average)
            average.copy_(kept)
