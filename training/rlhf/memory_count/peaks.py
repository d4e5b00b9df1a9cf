"""The peak of each moment of a stage, in bytes of live tensors, and what they are."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from ..networks import device
from ..networks.policy import Policy
from ..stages.learner import Learner
from . import sharded
from .live_bytes import LiveBytes


@dataclass(frozen=True)
class Peak:
    """Bytes at the peak of a moment of a stage. The process itself, and what a driver holds, are not among them."""

    moment: str
    # Of all networks that are loaded, and what is kept of them for sampling or for stepping back. Of sharded ones the
    # part of a rank, and what it gathers meanwhile.
    weights: int
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

    def __init__(self, live: LiveBytes, *, accumulates: bool, ranks: int) -> None:
        """`accumulates`: a step has several micro-batches, so at all but the first there is a gradient already.

        `ranks`: over how many its networks are sharded, 1 if they are not.
        """
        self.peaks: list[Peak] = []
        self.live = live
        self._accumulates, self._ranks = accumulates, ranks
        self._networks: list[nn.Module] = []
        self._kept: list[torch.Tensor] = []
        self._learners: list[Learner] = []

    def learner(self, network: nn.Module) -> Learner:
        """What trains a network, as it is after the first step."""
        learner = Learner(network, "network")
        _give_gradients(network)
        learner.step(0.0)
        self._learners.append(learner)
        return learner

    def hold(self, *networks: nn.Module) -> None:
        """The networks that the stage shards, if it shards any."""
        self._networks += networks

    def keep_weights(self, policy: Policy) -> None:
        """Keep the copy of a policy's weights for stepping back, where it counts: beside an engine on a CPU."""
        if not device.on_accelerator():
            self._kept += [weight.detach().clone() for weight in policy.parameters()]

    @contextmanager
    def measuring(
        self,
        moment: str,
        *,
        trained: nn.Module | None = None,
        read: Sequence[nn.Module] = (),
        has_cache: bool = False,
    ) -> Iterator[None]:
        """Add the peak while it is entered. What is alive before are weights and the optimisers' moments.

        `trained` gets gradients meanwhile, the networks that are `read` get none; with `has_cache` what is alive at the
        end, and was not before, is a cache.
        """
        before, states = self.live.now, self._optimiser_states()
        optimiser = _bytes(states)
        with self.live.highest() as highest:
            if trained and self._accumulates:
                _give_gradients(trained)
            yield
        gradients = list(trained.parameters()) if trained else []
        cache = self.live.now - before if has_cache else 0
        rest = highest[0] - before - _bytes(gradients) - cache
        gathered = self._gathered(trained, read)
        self.peaks.append(
            Peak(
                moment,
                weights=before - optimiser - self._spared(self._held()) + gathered.weights,
                gradients=_bytes(gradients) - self._spared(gradients) + gathered.gradients,
                optimiser=optimiser - self._spared(states),
                cache=cache,
                activations=rest,
            )
        )

    def _optimiser_states(self) -> list[torch.Tensor]:
        states = [state for learner in self._learners for state in learner.optimizer.state.values()]
        return [tensor for state in states for tensor in state.values()]

    def _held(self) -> list[torch.Tensor]:
        return [*(weight for network in self._networks for weight in network.parameters()), *self._kept]

    def _spared(self, tensors: Sequence[torch.Tensor]) -> int:
        """Bytes of tensors that other ranks hold."""
        return _bytes(tensors) - sharded.part_bytes(tensors, self._ranks)

    def _gathered(self, trained: nn.Module | None, read: Sequence[nn.Module]) -> sharded.Gathered:
        """The most that a pass gathers."""
        if self._ranks == 1:
            return sharded.Gathered()
        passes = [sharded.gathered(network, trains=False) for network in read]
        if trained:
            passes.append(sharded.gathered(trained, trains=True))
        return max(passes, key=sum, default=sharded.Gathered())


def _give_gradients(network: nn.Module) -> None:
    for parameter in network.parameters():
        parameter.grad = torch.empty_like(parameter)


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
