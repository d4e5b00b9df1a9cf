"""A network while it is being taught: its optimizer, the clipped step that every stage takes, and what to save."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from ..config import RunConfig
from ..exits import Diverged
from ..run.checkpoint import Checkpoint, Tensors, module_tensors, optimizer_tensors, restore_module, restore_optimizer
from ..run.directory import RunDirectory

GRADIENT_NORM = 1.0  # a longer gradient is shortened to this
PATIENCE = 3  # steps in a row whose gradient is not finite


class Learner:
    """One network and its Adam. `name` is what its tensors are called in a checkpoint."""

    def __init__(self, network: nn.Module, name: str) -> None:
        self.name = name
        self.network = network
        self.optimizer = torch.optim.Adam(network.parameters(), betas=(0.9, 0.95), eps=1e-5, fused=True)
        self.skipped_steps = 0
        self._skipped_in_a_row = 0

    def step(self, learning_rate: float) -> float:
        """Follow the gradient that has gathered, clear it, and return the norm that it had.

        A gradient that is not finite moves nothing and is counted. Raises Diverged at the third in a row.
        """
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_NORM).item()
        if math.isfinite(norm):
            self.optimizer.param_groups[0]["lr"] = learning_rate
            self.optimizer.step()
            self._skipped_in_a_row = 0
        else:
            self.skipped_steps += 1
            self._skipped_in_a_row += 1
        self.optimizer.zero_grad(set_to_none=True)
        if self._skipped_in_a_row == PATIENCE:
            raise Diverged(
                f"the gradient of the {self.name} was not finite {PATIENCE} times in a row",
                kind="not_finite",
                network=self.name,
            )
        return norm

    @property
    def is_steady(self) -> bool:
        """The last step was taken. A checkpoint after a skipped one would be one too late to go back to."""
        return self._skipped_in_a_row == 0

    def tensors(self) -> dict[str, Tensors]:
        """What a checkpoint has to hold."""
        return {self.name: module_tensors(self.network), f"{self.name}-adam": optimizer_tensors(self.optimizer)}

    def state(self) -> dict[str, Any]:
        """The counters that a checkpoint has to hold."""
        return {self.name: [self.skipped_steps, self._skipped_in_a_row]}

    def restore(self, saved: Checkpoint) -> None:
        """Go on from a checkpoint."""
        restore_module(self.network, saved.tensors(self.name))
        restore_optimizer(self.optimizer, saved.tensors(f"{self.name}-adam"))
        self.skipped_steps, self._skipped_in_a_row = saved.state()[self.name]

    def take_steps(
        self,
        run: RunDirectory,
        cfg: RunConfig,
        total: int,
        step: Callable[[int], dict[str, float]],
        data: Mapping[str, float],
    ) -> None:
        """Do `step` for every number below `total`, from the newest checkpoint on; it returns what to plot.

        `data`: what is said of the records before the first step.
        """
        if saved := run.resume():
            self.restore(saved)
        else:
            run.log(0, total, data)
        for number in range(run.step, total):
            metrics = step(number)
            # A step that was skipped has nothing to report but that.
            measured = metrics if self.is_steady else {}
            run.log(number + 1, total, {**measured, "skipped_steps": self.skipped_steps})
            if self.is_steady or number + 1 == total:  # after the last step nothing is left that could go wrong
                run.save_if_due(number + 1, total, cfg.checkpoint_seconds, lambda: (self.tensors(), self.state()))
            else:
                run.leave_if_asked()


def cosine(progress: float) -> float:
    """The share of the peak learning rate at `progress` from 0 to 1 through the steps: from 1 down to a tenth."""
    return 0.1 + 0.45 * (1 + math.cos(math.pi * progress))
