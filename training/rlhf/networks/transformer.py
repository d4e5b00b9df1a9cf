"""A transformers model as the policy and the scalar model both use it: how it is loaded, called, and in which dtype.

Only safetensors are read, because a pickle can run code; nor is a model's own code ever run.
"""

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from .. import memory
from ..data.batching import positions
from ..exits import InvalidInput
from ..model_folder import architecture, model_files
from . import device

BF16_WORTHWHILE = 500_000  # parameters from which bf16 is faster on a CPU that multiplies matrices in it


# What a network may raise that cannot be called as it is. Memory that ran out is among them, and no fault of it.
CANNOT_RUN = (RuntimeError, TypeError, ValueError, AttributeError, LookupError, NotImplementedError)


class ForwardPass:
    """Calls a network with those arguments that its `forward` names, since architectures name different ones.

    It reads rectangles with padding, and with a cache.
    """

    def __init__(self, network: PreTrainedModel) -> None:
        self._network = network
        self._parameters = frozenset(inspect.signature(network.forward).parameters)
        self._cache = "past_key_values" if "past_key_values" in self._parameters else "cache_params"

    def __call__(self, tokens: Tensor, attention: Tensor, *, cache: Cache | None = None, **options: Any) -> Any:
        """The network's output for `tokens` (B, N), the last N of the T columns that `attention` (B, T) covers."""
        options["position_ids"] = positions(attention)[:, -tokens.shape[1] :]  # (B, N)
        if cache is not None:
            options[self._cache] = cache
        if self._cache == "cache_params":  # a state-space model: earlier columns are in its state
            attention = attention[:, -tokens.shape[1] :]
        known = {name: value for name, value in options.items() if name in self._parameters}
        return self._network(tokens, attention_mask=attention, **known)


def runs_in_bf16(network: nn.Module, dtype: str) -> bool:
    """Whether the linear layers run in bf16 under a config's `dtype`."""
    if dtype != "auto":
        return dtype == "bf16"
    if device.on_accelerator():
        return True
    multiplies: bool = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return multiplies and sum(p.numel() for p in network.parameters()) >= BF16_WORTHWHILE


def bf16_layers(device: torch.device, *, enabled: bool) -> torch.autocast:
    """Linear layers run in bf16 while it is entered.

    Their cast weights are not kept for the rest of a pass: each is used once, and together they are half a network.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled, cache_enabled=False)


def load_network(auto_class: Any, directory: Path) -> tuple[PreTrainedModel, list[str]]:
    """The fp32 model in a directory, and the names of weights in its files that it does not use.

    Raises InvalidInput where the directory is unsafe or cannot be read, or where a weight is missing.
    """
    refuse_unsafe(directory)
    try:
        network, info = auto_class.from_pretrained(
            directory,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except Exception as error:  # of any kind: each architecture builds itself
        if memory.ran_out(error):  # which is no fault of the directory
            raise
        raise InvalidInput(
            f"{_name_of(directory)} cannot be read: {architecture.error_text(directory, error)}", kind="model_files"
        ) from error
    if missing := sorted(info["missing_keys"]):
        raise InvalidInput(f"{_name_of(directory)} is missing a weight: {missing[0]}", kind="weights")
    return network, sorted(info["unexpected_keys"])


def refuse_unsafe(directory: Path) -> None:
    """Raises InvalidInput for a model directory that cannot be read as it is: see model_files."""
    model_files.require(directory)
    if (directory / model_files.ADAPTER).exists():  # transformers would silently apply it
        raise InvalidInput(
            f"the model directory {directory.name} contains an adapter: merge it into the weights",
            kind="adapter_beside",
            field=model_files.ADAPTER,
        )


def _name_of(directory: Path) -> str:
    """A model directory in a sentence. One that is being checked has a temporary name that nobody knows."""
    return "the model" if directory.name.startswith(".") else f"the model directory {directory.name}"
