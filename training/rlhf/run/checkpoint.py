"""Checkpoints: tensors by name and a few numbers, from which a stage resumes after any kill."""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn

from .. import sharding
from .manifest import OnBytes, sealed, verifies

STATE = "state.json"
KEPT = 2  # checkpoints of a run
NAMES = "step-*[0-9]"  # but not step-000200.damaged

Tensors = Mapping[str, Tensor]


class Checkpoint(NamedTuple):
    """A verified directory, and the step after which it was saved."""

    step: int
    path: Path

    @property
    def attempt(self) -> Path:
        """The folder of the attempt that saved it."""
        return self.path.parents[1]

    def state(self) -> dict[str, Any]:
        """The numbers beside the tensors."""
        state: dict[str, Any] = json.loads((self.path / STATE).read_text("utf-8"))
        return state

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors saved under `name`."""
        return safetensors.torch.load_file(self.path / f"{name}.safetensors")


class Found(NamedTuple):
    """What there is to resume from."""

    newest: Checkpoint | None  # the newest that verifies
    damaged: list[Path]  # newer ones that do not


def save(
    checkpoints: Path,
    step: int,
    tensors: Mapping[str, Tensors],
    state: Mapping[str, Any],
    check: Callable[[], None],
    on_bytes: OnBytes,
) -> None:
    """Write a checkpoint. `check` is called before it gets its name, and may raise; `on_bytes` after each file.

    Tensors are written whole, so the other ranks have to `take_part` where they are sharded.
    """
    with sealed(checkpoints / f"step-{step:06d}", check) as draft:
        for name, group in tensors.items():
            contiguous = {key: tensor.contiguous() for key, tensor in sharding.gathered(group).items()}
            safetensors.torch.save_file(contiguous, draft / f"{name}.safetensors")
            on_bytes(size({name: contiguous}))
        (draft / STATE).write_text(json.dumps(state), "utf-8")


def take_part(tensors: Mapping[str, Tensors]) -> None:
    """Give the rank that saves these tensors this rank's parts of them."""
    for group in tensors.values():
        sharding.gathered(group)


def size(tensors: Mapping[str, Tensors]) -> int:
    """Bytes of all the tensors."""
    return sum(tensor.nbytes for group in tensors.values() for tensor in group.values())


def newest(checkpoint_directories: Iterable[Path]) -> Found:
    """The newest checkpoint in any of these directories that verifies."""
    damaged: list[Path] = []
    for path in _newest_first(checkpoint_directories):
        if verifies(path):
            return Found(Checkpoint(step_of(path), path), damaged)
        damaged.append(path)
    return Found(None, damaged)


def step_of(path: Path) -> int:
    """The step after which a checkpoint was saved."""
    return int(path.name.removeprefix("step-"))


def set_aside(path: Path) -> None:
    """Rename a damaged checkpoint so that it is not found again, but kept for people to look at."""
    damaged = path.with_name(f"{path.name}.damaged")
    shutil.rmtree(damaged, ignore_errors=True)
    path.rename(damaged)


def prune(checkpoint_directories: Iterable[Path]) -> None:
    """Delete all but the newest checkpoints of these directories together."""
    for path in _newest_first(checkpoint_directories)[KEPT:]:
        hidden = path.rename(path.with_name(f".{path.name}.draft"))  # or a kill meanwhile would leave a damaged one
        shutil.rmtree(hidden, ignore_errors=True)


def _newest_first(checkpoint_directories: Iterable[Path]) -> list[Path]:
    found = [path for directory in checkpoint_directories for path in directory.glob(NAMES)]
    return sorted(found, key=step_of, reverse=True)


def module_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The parameters of a module by name, each tied weight once."""
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


def restore_module(module: nn.Module, saved: Tensors) -> None:
    """Put back what `module_tensors` gave, here or with another number of ranks."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            restore_tensor(parameter, saved[name])


@torch.no_grad()
def restore_tensor(tensor: Tensor, saved: Tensor) -> None:
    """Give a tensor the numbers that were saved of it, whole or of the part that this rank has."""
    sharding.own_part(tensor).copy_(sharding.own_part(sharding.cut_like(saved, tensor)))


def restore_tensors(tensors: Tensors, saved: Tensors) -> None:
    """Give each of the saved tensors' namesakes its numbers."""
    for name, one in saved.items():
        restore_tensor(tensors[name], one)


def copied_to_cpu(module: nn.Module) -> Tensors:
    """A copy of what `module_tensors` gives, on the CPU: an accelerator's memory is scarce."""
    return {name: sharding.on_cpu(one) for name, one in module_tensors(module).items()}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The moments of every parameter, named by parameter number and kind."""
    state = optimizer.state_dict()["state"]
    return {f"{number}.{kind}": value for number, moments in state.items() for kind, value in moments.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, saved: Tensors) -> None:
    """Put back what `optimizer_tensors` gave, here or with another number of ranks."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in saved.items():
        number, kind = name.split(".")
        parameter = parameters[int(number)]
        is_moment = value.shape == parameter.shape  # and not the number of steps
        state.setdefault(int(number), {})[kind] = sharding.cut_like(value, parameter) if is_moment else value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
