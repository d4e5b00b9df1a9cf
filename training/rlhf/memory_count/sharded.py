"""What a rank holds of a sharded network, and what it gathers to make a pass through it, in bytes.

Computed from shapes: `fully_shard` frees what it has gathered by resizing storages, which no operation on fake tensors
shows. The rank is the first one, whose parts are the largest. What is gathered is an upper bound, by the order in which
torch 2.13 takes and frees its buffers.
"""

from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor, nn

from .. import sharding


class Gathered(NamedTuple):
    """Bytes that are there at the same time for a pass."""

    weights: int = 0
    gradients: int = 0


def part_bytes(tensors: Iterable[Tensor], ranks: int) -> int:
    """Bytes of the first rank's parts of tensors."""
    return sum(
        tensor.nbytes // len(tensor) * -(-len(tensor) // ranks) if tensor.ndim else tensor.nbytes for tensor in tensors
    )


def gathered(network: nn.Module, *, trains: bool) -> Gathered:
    """What a pass through a network gathers at most, with that for the gradient if it `trains`."""
    layers = [sum(weight.nbytes for weight in layer.parameters()) for layer in sharding.layers(network)]
    layer = max(layers, default=0)
    rest = sum(weight.nbytes for weight in network.parameters()) - sum(layers)
    if not trains:  # what was gathered lies there twice until the next is: first as it came, then as weights
        return Gathered(max(2 * rest + layer, rest + 3 * layer))
    # Gradients are copied before they are summed into parts, those of the layers while the next one is computed.
    return Gathered(rest + 2 * layer, max(rest + 3 * layer, 2 * rest + layer))
