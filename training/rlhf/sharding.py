"""Sharding: weights, gradients and moments cut over the ranks, for models that no card holds whole.

torch's `fully_shard` does it (Rajbhandari et al. 2020, "ZeRO", stage 3): each layer is gathered when it computes and
let go afterwards, and its gradient is summed into the part of each rank. So all ranks make the same number of passes
through a sharded network, with nothing to read if need be. Sampling makes thousands, and uses a whole copy.

The part of a rank is a DTensor. All functions here also take whole tensors and networks, and leave them as they are.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from transformers.modeling_layers import GradientCheckpointingLayer

from . import ranks


def shard(network: nn.Module) -> None:
    """Cut a network's weights over the ranks: each layer by itself, all else together. One process alone keeps all.

    Whoever computes has to call `network` itself, which gathers what is in no layer.
    """
    if ranks.count() == 1:
        return
    mesh = _mesh(next(network.parameters()).device.type)
    for unit in [*layers(network), network]:
        # What is in no layer is let go after a pass as well, or it would stay whole in networks that only read.
        fully_shard(unit, mesh=mesh, reshard_after_forward=True)
        assert isinstance(unit, FSDPModule)
        unit.set_gradient_divide_factor(1.0)  # losses are divided by what all ranks count together
        unit.set_force_sum_reduction_for_comms(True)
        unit.set_reduce_scatter_unused_params(True)  # experts that read tokens of other ranks only
        run = ranks.together if unit is network else ranks.unnoted
        unit.set_custom_all_gather(_Collective(run, _all_gather))  # type: ignore[arg-type]
        unit.set_custom_reduce_scatter(_Collective(run, _reduce_scatter))  # type: ignore[arg-type]


def layers(network: nn.Module) -> list[nn.Module]:
    """The layers that are gathered by themselves, the inner ones first: none that shares a weight with others."""
    holders = _holders(network)
    found = [module for module in network.modules() if isinstance(module, GradientCheckpointingLayer)]
    return [layer for layer in reversed(found) if _holders(layer).items() <= holders.items()]


def is_sharded(network: nn.Module) -> bool:
    """Whether its weights are cut over the ranks."""
    return isinstance(network, FSDPModule)


def with_idle_passes(network: nn.Module, groups: list[list[int]]) -> list[list[int]]:
    """The groups that this rank passes through a network; through a sharded one all ranks have to pass as often."""
    if not is_sharded(network):
        return groups
    return groups + [[] for _ in range(max(ranks.gathered(len(groups))) - len(groups))]


def is_part(tensor: Tensor) -> bool:
    """Whether this rank holds a part of it only."""
    return isinstance(tensor, DTensor)


def own_part(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor, in the same memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def cut_like(tensor: Tensor, other: Tensor) -> Tensor:
    """A whole tensor, cut as `other` is; what is cut already stays as it is."""
    if isinstance(tensor, DTensor) or not isinstance(other, DTensor):
        return tensor
    rows = -(-len(tensor) // ranks.count())  # of each rank but the last ones
    own = tensor[ranks.own() * rows : (ranks.own() + 1) * rows]
    return _part(own.to(other.device, copy=True), other, other.device_mesh)


def whole(tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """All of a tensor, of which all ranks have to ask for it. What is gathered is cast to `dtype` before."""
    if not isinstance(tensor, DTensor):
        return tensor
    part = cast(DTensor, tensor.detach().to(dtype or tensor.dtype))
    gathered: Tensor = ranks.together(part.full_tensor)
    return gathered


def on_cpu(tensor: Tensor) -> Tensor:
    """A copy on the CPU, of a part the same part."""
    if not isinstance(tensor, DTensor):
        return tensor.to("cpu", copy=True)
    return _part(tensor.to_local().to("cpu", copy=True), tensor, _mesh("cpu"))


def gathered(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The whole tensors for the rank that writes them; parts are gathered one by one, onto the CPU.

    All ranks have to ask for them; the others get none.
    """
    found = {}
    for name, tensor in tensors.items():
        all_of_it = whole(tensor)
        if ranks.is_first():
            found[name] = all_of_it.cpu() if is_part(tensor) else tensor
    return found


def gathered_state(network: nn.Module) -> dict[str, Tensor] | None:
    """The same of a network's state_dict, to save it from; None where it is whole. A tied weight has all its names."""
    state = dict(network.state_dict(keep_vars=True))
    if not any(is_part(weight) for weight in state.values()):
        return None
    first = {id(weight): name for name, weight in reversed(state.items())}
    found = gathered({name: state[name].detach() for name in first.values()})
    return {name: found[first[id(weight)]] for name, weight in state.items()} if found else {}


def _holders(module: nn.Module) -> Counter[int]:
    """How many modules in this one hold each weight, by its id."""
    return Counter(id(weight) for inner in module.modules() for weight in inner.parameters(recurse=False))


def _mesh(device_type: str) -> DeviceMesh:
    """All ranks in a row."""
    return init_device_mesh(device_type, (ranks.count(),))


def _part(own: Tensor, like: DTensor, mesh: DeviceMesh) -> DTensor:
    return DTensor.from_local(own, mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride())


class _Collective:
    """What `fully_shard` does to communicate, run as all collectives are."""

    def __init__(self, run: Callable[..., Any], collective: Callable[..., Any]) -> None:
        self._run, self._collective = run, collective

    def allocate(self, size: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """A buffer."""
        return torch.empty(*size, dtype=dtype, device=device)

    def __call__(self, **arguments: Any) -> Any:
        return self._run(self._collective, **arguments)


def _all_gather(output_tensor: Tensor, input_tensor: Tensor, **options: Any) -> Any:
    return dist.all_gather_single(output_tensor, input_tensor, **options)


def _reduce_scatter(output_tensor: Tensor, input_tensor: Tensor, **options: Any) -> Any:
    return dist.reduce_scatter_single(output_tensor, input_tensor, **options)
