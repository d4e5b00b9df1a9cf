"""LoRA: beside each linear layer of a network that does not train, two small matrices do.

A layer with weight W then computes with W + alpha / rank * B @ A, of which A (rank, in) and B (out, rank) are the
adapter (Hu et al. 2021, "LoRA", section 4.1). B starts at zero, so that a new adapter changes nothing.

One network may have several adapters: that of the policy, of its reference, of the reward model and of the critic. It
is loaded once, and each of them calls it with its own adapter active; see Trunk.with_adapter. The layers themselves are
peft's. Embeddings and the head over the vocabulary have no adapter, and no layer has one that peft would take for
another's when it reads the file. Left out on purpose: dropout, which the engine never uses.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from .. import seeding
from ..exits import InvalidInput
from ..model_folder import adapter_files
from ..model_folder.adapter_files import Shape

PREFIX = "base_model.model."  # of the names of tensors in peft's files
MATRICES = ("lora_A", "lora_B")


class SavedAdapter(NamedTuple):
    """The content of an adapter directory."""

    directory: Path
    shape: Shape
    layers: list[str]  # by their names in the network
    base_sha256: str


class Base(NamedTuple):
    """A whole network that does not train, and the manifest hash of its directory."""

    network: PreTrainedModel
    sha256: str


class Adapter(nn.Module):
    """One adapter of a network. It has no other parameters than its matrices."""

    def __init__(self, name: str, base: Base, shape: Shape, layers: dict[str, Any]) -> None:
        super().__init__()
        self.name, self.base, self.shape = name, base, shape
        self.layers = layers  # peft's, by their names in the network
        self.matrices = nn.ParameterDict()
        for path, layer in layers.items():
            for matrix in MATRICES:
                linear = getattr(layer, matrix)[name]
                # fp32, also where the base is held in bf16, and where that lives.
                empty = layer.get_base_layer().weight.new_empty(linear.weight.shape, dtype=torch.float32)
                linear.weight = nn.Parameter(empty)
                self.matrices[f"{path}.{matrix}".replace(".", "/")] = linear.weight  # a name may have no dot

    def tensors(self) -> dict[str, Tensor]:
        """Its matrices, by the names that they have in peft's files."""
        named = {key.replace("/", "."): matrix.detach() for key, matrix in self.matrices.items()}
        return {f"{PREFIX}{name}.weight": matrix for name, matrix in named.items()}

    @torch.no_grad()
    def reset(self, seed: int, stream: str) -> None:
        """The matrices of a new adapter: A uniform within 1 / sqrt(in), which is peft's choice, B zero."""
        for key, matrix in self.matrices.items():
            if key.endswith("lora_B"):
                matrix.zero_()
                continue
            drawn = seeding.uniforms(matrix.numel(), seeding.generator(seed, stream, prompt_id=key))  # in [0, 1)
            matrix.copy_(((2 * drawn - 1) / matrix.shape[1] ** 0.5).view_as(matrix))

    @torch.no_grad()
    def restore(self, saved: SavedAdapter) -> None:
        """Put in the matrices of an adapter directory. Raises InvalidInput where they belong to another network."""
        ours, theirs = self.tensors(), read_matrices(saved.directory)
        if {name: one.shape for name, one in ours.items()} != {name: one.shape for name, one in theirs.items()}:
            raise adapter_files.unusable(saved.directory, "its matrices do not fit the layers of its base")
        for name, matrix in ours.items():
            matrix.copy_(theirs[name])

    def save(self, directory: Path) -> None:
        """Write the adapter with its base's config and hash into a directory."""
        tensors = {name: matrix.contiguous() for name, matrix in self.tensors().items()}
        safetensors.torch.save_file(tensors, directory / adapter_files.WEIGHTS, metadata={"format": "pt"})
        transposed = any(isinstance(layer.get_base_layer(), Conv1D) for layer in self.layers.values())
        adapter_files.write(directory, self.shape, list(self.layers), self.base.sha256, transposed=transposed)
        self.base.network.config.save_pretrained(directory)


class Switch:
    """Which of a network's adapters takes part; none before there is one."""

    def __init__(self) -> None:
        self._layers: list[Any] = []
        self._active: str | None = None

    def add(self, adapter: Adapter) -> None:
        """Know of an adapter, which does not take part yet."""
        self._layers = list(adapter.layers.values())  # the same for every adapter of the network
        self._set(None)

    def activate(self, adapter: Adapter | None) -> None:
        """Have this adapter take part from now on, or none."""
        name = adapter.name if adapter else None
        if name != self._active:
            self._set(name)

    def contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """For activation checkpointing: a layer that is computed again later has the adapter that it has now."""
        return nullcontext(), self._with(self._active)

    @contextmanager
    def _with(self, name: str | None) -> Iterator[None]:
        before = self._active
        self._set(name)
        try:
            yield
        finally:
            self._set(before)

    def _set(self, name: str | None) -> None:
        for layer in self._layers:
            # Not by peft's set_adapter: that one also decides what has a gradient.
            layer._active_adapter = [name] if name else []
        self._active = name


def linear_layers(network: PreTrainedModel) -> dict[str, nn.Module]:
    """The layers of a network that adapters stand beside, by name: all linear ones of its trunk."""
    in_trunk = set(map(id, network.base_model.modules()))
    head = network.get_output_embeddings()
    modules = dict(network.named_modules())
    return {
        path: module
        for path, module in modules.items()
        if isinstance(module, nn.Linear | Conv1D)
        and not type(module).__name__.endswith("Router")  # a linear layer that gives more than its product
        and id(module) in in_trunk
        and module is not head
        and not _is_read_past(path, modules)
    }


def _is_read_past(path: str, modules: Mapping[str, nn.Module]) -> bool:
    """Whether the kernels of a state-space layer may read this layer's weight without calling it."""
    mixer, _, name = path.rpartition(".")
    return hasattr(modules[mixer], "conv1d") and not name.startswith("in_proj")


def inject(base: Base, name: str, shape: Shape, saved_layers: Iterable[str] = (), *, trains: bool) -> Adapter:
    """A further adapter of a base, not filled yet. All else keeps what it has: weights, and whether they train.

    It stands beside the layers that the network's other adapters have; the first one beside `saved_layers`, or else
    beside all that it can. Raises InvalidInput where the network has no layer for it.
    """
    from peft import LoraConfig, inject_adapter_in_model  # takes seconds to import
    from peft.tuners.lora import LoraLayer

    network = base.network
    saved = linear_layers(network).keys() & set(saved_layers)  # of another network's none: see Adapter.restore
    layers = _lora_layers(network, LoraLayer).keys() or saved or _layers_for_peft(network)
    if not layers:
        raise InvalidInput(
            f"a model of type {network.config.model_type} has no layers for LoRA adapters: set adapter_rank to 0",
            kind="not_adaptable",
            field="adapter_rank",
        )
    trained = {id(parameter) for parameter in network.parameters() if parameter.requires_grad}
    targets = [f"network.{path}" for path in sorted(layers)]
    config = LoraConfig(r=shape.rank, lora_alpha=shape.alpha, target_modules=targets)  # type: ignore[arg-type]
    # In a module of its own: of a network that it knows, peft changes the targets, and leaves a mark for transformers.
    holder = nn.ModuleDict({"network": network})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says what it corrects about Conv1D
        inject_adapter_in_model(config, holder, name, low_cpu_mem_usage=True)  # with matrices without numbers
    adapter = Adapter(name, base, shape, _lora_layers(network, LoraLayer))
    for parameter in network.parameters():
        parameter.requires_grad_(id(parameter) in trained)
    adapter.requires_grad_(trains)
    return adapter


def _layers_for_peft(network: PreTrainedModel) -> set[str]:
    """The linear layers of which peft reads an adapter as it was written.

    In models with experts that transformers keeps in one tensor, peft takes the names of some other layers, such as
    those of shared experts, for names of experts as older adapters have them.
    """
    from peft import LoraConfig
    from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

    def stays(path: str) -> bool:
        config = LoraConfig(target_modules=[path])
        try:
            convert_peft_config_for_transformers(config, network, None)
        except ValueError:  # it misses the other names of an expert
            return False
        return path in config.target_modules  # type: ignore[operator]

    return set(filter(stays, linear_layers(network)))


def _lora_layers(network: PreTrainedModel, kind: type) -> dict[str, Any]:
    return {path: module for path, module in network.named_modules() if isinstance(module, kind)}


def read(directory: Path) -> SavedAdapter:
    """What an adapter directory says of itself; its matrices are read by Adapter.restore. Raises InvalidInput."""
    shape, layers = adapter_files.shape_of(directory), adapter_files.layers_of(directory)
    return SavedAdapter(directory, shape, layers, adapter_files.base_sha256(directory))


def read_matrices(directory: Path) -> dict[str, Tensor]:
    """The matrices of an adapter directory by their names in the file. Raises InvalidInput."""
    try:
        matrices: dict[str, Tensor] = safetensors.torch.load_file(directory / adapter_files.WEIGHTS)
    except (OSError, safetensors.SafetensorError) as error:
        raise adapter_files.unusable(directory, str(error)) from error
    return matrices


@torch.no_grad()
def merge(network: PreTrainedModel, saved: SavedAdapter) -> None:
    """Add an adapter to the weights of its base, in their dtype. Raises InvalidInput where it does not fit."""
    matrices = read_matrices(saved.directory)
    layers = linear_layers(network)
    named = {f"{PREFIX}{path}.{matrix}.weight" for path in saved.layers for matrix in MATRICES}
    if matrices.keys() != named or not layers.keys() >= set(saved.layers):
        raise adapter_files.unusable(saved.directory, "its matrices do not fit the layers of its base")
    for path in saved.layers:
        layer = layers[path]
        a, b = (matrices[f"{PREFIX}{path}.{matrix}.weight"].float() for matrix in MATRICES)
        change = (b @ a) * (saved.shape.alpha / saved.shape.rank)  # (out, in)
        weight: Tensor = layer.weight.T if isinstance(layer, Conv1D) else layer.weight  # type: ignore[assignment]
        if weight.shape != change.shape:
            raise adapter_files.unusable(saved.directory, f"its matrices do not fit {path}")
        weight += change.to(weight)


def whole_names(names: Mapping[str, Any]) -> set[str]:
    """The names that weights have in a network without adapters."""
    return {name.replace(".base_layer.", ".") for name in names if ".lora_" not in name}
