"""What every stage that trains has in common: an optimiser, a step with a clipped gradient, checkpoints, a loop."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from .. import ranks, sharding
from ..config import LearningConfig, RunConfig
from ..exits import Diverged
from ..networks.policy import Policy
from ..networks.scalar_model import ScalarModel
from ..run.checkpoint import Checkpoint, Tensors, module_tensors, optimizer_tensors, restore_module, restore_optimizer
from ..run.directory import RunDirectory

GRADIENT_NORM = 1.0  # a longer gradient is scaled down to this norm
MAX_SKIPPED_IN_A_ROW = 3  # steps in a row without a finite gradient that end a stage


def prepare(network: Policy | ScalarModel, cfg: LearningConfig) -> None:
    """Have a network that will train compute activations again, and cut it over the ranks, as the config says."""
    if cfg.activation_checkpointing == "on":
        network.trunk.checkpoint_activations()
    if cfg.sharding == "on":
        network.shard()


class Learner:
    """One network and its Adam optimiser (Kingma & Ba 2015). `name` names its tensors in a checkpoint."""

    def __init__(self, network: nn.Module, name: str) -> None:
        self.name = name
        self.network = network
        self.optimizer = torch.optim.Adam(network.parameters(), betas=(0.9, 0.95), eps=1e-5, fused=True)
        self.skipped_steps = 0
        self._skipped_in_a_row = 0

    def step(self, learning_rate: float) -> float:
        """Take a step with the accumulated gradient, clear it, and return its norm before clipping.

        The gradient is the sum over all ranks: all take the same step, or all skip it. It is clipped by its norm
        (Pascanu et al. 2013). One that is not finite is skipped and counted.
        Raises Diverged at the last of MAX_SKIPPED_IN_A_ROW.
        """
        parameters = list(self.network.parameters())
        ranks.sum_gradients(one for one in parameters if not sharding.is_part(one))  # of parts they are summed already
        whole_norm = sharding.whole(nn.utils.get_total_norm([one.grad for one in parameters if one.grad is not None]))
        nn.utils.clip_grads_with_norm_(parameters, GRADIENT_NORM, whole_norm)
        norm = whole_norm.item()
        if math.isfinite(norm):
            self.optimizer.param_groups[0]["lr"] = learning_rate
            self.optimizer.step()
            self._skipped_in_a_row = 0
        else:
            self.skipped_steps += 1
            self._skipped_in_a_row += 1
        self.optimizer.zero_grad(set_to_none=True)
        if self._skipped_in_a_row == MAX_SKIPPED_IN_A_ROW:
            raise Diverged(
                f"the gradient of the {self.name} was not finite {MAX_SKIPPED_IN_A_ROW} times in a row",
                kind="not_finite",
                network=self.name,
            )
        return norm

    @property
    def took_last_step(self) -> bool:
        """Whether the last step was not skipped. A checkpoint after a skipped one would be too late to go back to."""
        return self._skipped_in_a_row == 0

    def tensors(self) -> dict[str, Tensors]:
        """What a checkpoint has to hold."""
        return {self.name: module_tensors(self.network), f"{self.name}-adam": optimizer_tensors(self.optimizer)}

    def state(self) -> dict[str, Any]:
        """The counters that a checkpoint has to hold."""
        return {self.name: [self.skipped_steps, self._skipped_in_a_row]}

    def restore(self, saved: Checkpoint) -> None:
        """Continue from a checkpoint."""
        restore_module(self.network, saved.tensors(self.name))
        restore_optimizer(self.optimizer, saved.tensors(f"{self.name}-adam"))
        self.skipped_steps, self._skipped_in_a_row = saved.state()[self.name]

    def take_steps(
        self,
        run: RunDirectory,
        cfg: RunConfig,
        total: int,
        step: Callable[[int], dict[str, float]],
        data_metrics: Mapping[str, float],
    ) -> None:
        """Call `step` for every number below `total`, from the newest checkpoint on; it returns the metrics to plot.

        `data_metrics` are those of the records, logged before the first step. Raises Interrupted and Diverged.
        """
        if saved := run.resume():
            self.restore(saved)
        else:
            run.log(0, total, data_metrics)
        for number in range(run.step, total):
            metrics = step(number)
            if not self.took_last_step:  # a skipped step has nothing else to report
                metrics = {}
            run.log(number + 1, total, {**metrics, "skipped_steps": self.skipped_steps})
            if self.took_last_step or number + 1 == total:  # after the last step nothing is left to go back for
                run.save_if_due(number + 1, total, cfg.checkpoint_seconds, lambda: (self.tensors(), self.state()))
            else:
                run.stop_if_requested()


def cosine(progress: float) -> float:
    """The share of the peak learning rate at `progress`, 0 to 1, through the steps: a cosine from 1 down to 0.1.

    The schedule of Ouyang et al. 2022, appendix C.1 and C.2.
    """
    return 0.1 + 0.45 * (1 + math.cos(math.pi * progress))


def mean_metrics(reports: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every metric over the reports that hold it."""
    values: dict[str, list[float]] = {}
    for report in reports:
        for name, value in report.items():
            values.setdefault(name, []).append(value)
    return {name: sum(group) / len(group) for name, group in values.items()}
