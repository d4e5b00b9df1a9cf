"""Weights that do not train, held in bf16.

Under autocast a linear layer casts its fp32 weight to bf16 whenever it is called. A network that does not train can
hold the cast weight instead: half the memory, and the same numbers to the last bit. Only weights of linear layers are
held so, since embeddings and norms work in fp32; a head that shares its weight with the embedding stays fp32 with it.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from .. import memory
from .transformer import CANNOT_RUN
from .trunk import Trunk, assumed, tried


@torch.no_grad()
def hold_in_bf16(network: PreTrainedModel, trunk: Trunk) -> bool:
    """Cast the weights of the linear layers, unless that changes the network's hidden states; whether they are cast."""
    network.requires_grad_(False)
    if assumed.get():
        _cast(network)
        return True
    tokens, mask = tried(network)
    with torch.autocast(network.device.type, torch.bfloat16):
        expected = trunk.hidden(tokens, mask)
        whole = _cast(network)
        try:
            is_equal = torch.equal(trunk.hidden(tokens, mask), expected)
        except CANNOT_RUN as error:
            if memory.ran_out(error):
                raise
            is_equal = False
    if not is_equal:
        for parameter, data in whole:
            parameter.data = data.to(parameter.device)
        return False
    cast = {id(parameter) for parameter, _data in whole}
    for parameter in network.parameters():  # out of the file that they are mapped from, whose other pages may go
        if id(parameter) not in cast:
            parameter.data = parameter.data.clone()
    return True


def _cast(network: PreTrainedModel) -> list[tuple[nn.Parameter, Tensor]]:
    """Each weight that was cast, with a copy on the CPU of what it was."""
    others = {
        id(parameter)
        for module in network.modules()
        if not isinstance(module, nn.Linear | Conv1D)
        for parameter in module.parameters(recurse=False)
    }
    whole = []
    for module in network.modules():
        for parameter in module.parameters(recurse=False):
            if id(parameter) not in others and parameter.dtype == torch.float32:
                whole.append((parameter, parameter.data.cpu()))
                parameter.data = parameter.data.to(torch.bfloat16)
    return whole
