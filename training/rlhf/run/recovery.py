"""What a stage does by itself about gradients that are not finite and about memory that runs out.

Either is answered once in the life of a run: the stage goes back to its newest checkpoint, as after a kill, and on at
half the learning rate or with half as many tokens at once. A second time it ends with advice.
"""

import dataclasses
import gc
from collections.abc import Callable

import torch

from .. import memory
from ..config import RunConfig
from ..exits import Diverged, InvalidInput
from .directory import RunDirectory
from .recovery_log import Setback, Setbacks

INCURABLE = frozenset({"sampler_gap", "reference_not_finite"})
LEARNING_RATES = ("learning_rate", "value_learning_rate")

Stage = Callable[[RunDirectory, RunConfig], None]


def persevere(run: RunDirectory, cfg: RunConfig, stage: Stage) -> None:
    """See `stage` to its end. Raises Diverged or InvalidInput, with advice, where a remedy did not help."""
    while True:
        adapted = remedied(cfg, run.setbacks)
        try:
            return stage(run, adapted)
        except Diverged as end:
            if not is_cured_by_slowing_down(adapted, end):
                raise
            slow_down(run, adapted, end)
        except (RuntimeError, MemoryError, OSError) as error:
            if not memory.ran_out(error):
                raise
            take_smaller_bites(run, adapted)
        gc.collect()  # the networks of the try that failed, before those of the next one are loaded
        torch.cuda.empty_cache()


def remedied(cfg: RunConfig, setbacks: Setbacks) -> RunConfig:
    """The config with the remedies that earlier setbacks called for."""
    if setbacks.had("not_finite"):
        halves = {name: rate / 2 for name, rate in learning_rates(cfg).items()}
        cfg = dataclasses.replace(cfg, **halves)  # type: ignore[arg-type]
    return memory.halved(cfg) if setbacks.had("out_of_memory") else cfg


def is_cured_by_slowing_down(cfg: RunConfig, end: Diverged) -> bool:
    """Whether a lower learning rate may help: not where the fault is in what the stage was given."""
    if not learning_rates(cfg) or end.kind in INCURABLE:
        return False
    return end.kind != "reward_not_finite" or cfg.stage == "reward"  # elsewhere the reward model does not learn


def slow_down(run: RunDirectory, cfg: RunConfig, end: Diverged) -> None:
    """Note that the stage goes on at half the learning rate. Raises Diverged the second time."""
    if run.setbacks.had("not_finite"):
        rates = " and ".join(f"{name} (it was {rate:g})" for name, rate in learning_rates(cfg).items())
        raise Diverged(
            f"{end}, even at half the learning rate: try again with a lower {rates}", kind=end.kind, **end.numbers
        ) from end
    back = back_to(run)
    text = f"After step {run.step} {end}, so the stage went back to {back} and on at half the learning rate."
    run.setbacks.note(Setback("not_finite", run.step, text))


def take_smaller_bites(run: RunDirectory, cfg: RunConfig) -> None:
    """Note that the stage goes on with half the micro-batch. Raises InvalidInput the second time."""
    if run.setbacks.had("out_of_memory"):
        raise InvalidInput(memory.advice(cfg), kind="memory", field="batch_tokens", batch_tokens=cfg.batch_tokens)
    text = (
        f"After step {run.step} the memory did not suffice, so the stage went back to {back_to(run)} and on with half"
        f" as many tokens at once (batch_tokens {memory.halved(cfg).batch_tokens})."
    )
    run.setbacks.note(Setback("out_of_memory", run.step, text))


def back_to(run: RunDirectory) -> str:
    """Where the stage will go on, in words."""
    found = run.newest_checkpoint()
    return f"the checkpoint of step {found.step}" if found else "its start"


def learning_rates(cfg: RunConfig) -> dict[str, float]:
    """The learning rates among a stage's fields."""
    return {name: getattr(cfg, name) for name in LEARNING_RATES if hasattr(cfg, name)}
