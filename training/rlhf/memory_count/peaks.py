"""The peak of each moment of a stage, in bytes of live tensors, and what they are."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from ..networks import device
from ..networks.policy import Policy
from ..stages.learner import Learner
from .live_bytes import LiveBytes


@dataclass(frozen=True)
class Peak:
    """Bytes at the peak of a moment of a stage. The process itself, and what a driver holds, are not among them."""

    moment: str
    weights: int  # of all networks that are loaded, and what is kept of them for sampling or for stepping back
    gradients: int
    optimiser: int
    cache: int  # of the answers that are being written
    activations: int  # all else

    @property
    def total(self) -> int:
        """Bytes in all."""
        return self.weights + self.gradients + self.optimiser + self.cache + self.activations


class Stage:
    """A stage whose memory is counted: its networks, what trains them, and the peaks so far."""

    def __init__(self, live: LiveBytes, *, accumulates: bool) -> None:
        """`accumulates`: a step has several micro-batches, so at all but the first there is a gradient already."""
        self.peaks: list[Peak] = []
        self.live = live
        self._accumulates = accumulates
        self._learners: list[Learner] = []

    def learner(self, network: nn.Module) -> Learner:
        """What trains a network, as it is after the first step."""
        learner = Learner(network, "network")
        _give_gradients(network)
        learner.step(0.0)
        self._learners.append(learner)
        return learner

    def kept_weights(self, policy: Policy) -> list[torch.Tensor]:
        """The copy of a policy's weights that is kept for stepping back, where it counts: beside an engine on a CPU."""
        return [] if device.on_accelerator() else [weight.detach().clone() for weight in policy.parameters()]

    @contextmanager
    def measuring(self, moment: str, *, trained: nn.Module | None = None, has_cache: bool = False) -> Iterator[None]:
        """Add the peak while it is entered. What is alive before are weights and the optimisers' moments.

        `trained` gets gradients meanwhile; with `has_cache` what is alive at the end, and was not before, is a cache.
        """
        before, optimiser = self.live.now, self._optimiser_bytes()
        with self.live.highest() as highest:
            if trained and self._accumulates:
                _give_gradients(trained)
            yield
        gradients = _bytes(trained.parameters()) if trained else 0
        cache = self.live.now - before if has_cache else 0
        rest = highest[0] - before - gradients - cache
        self.peaks.append(Peak(moment, before - optimiser, gradients, optimiser, cache, rest))

    def _optimiser_bytes(self) -> int:
        states = [state for learner in self._learners for state in learner.optimizer.state.values()]
        return _bytes(tensor for state in states for tensor in state.values())


def _give_gradients(network: nn.Module) -> None:
    for parameter in network.parameters():
        parameter.grad = torch.empty_like(parameter)


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
