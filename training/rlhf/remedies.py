"""What a stage does by itself about gradients that are not finite and about memory that runs out.

Either is answered once in the life of a run: the stage goes back to its newest checkpoint, as after a kill, and on at
half the learning rate or with half as many tokens at once. A second time it ends with advice.
"""

import dataclasses
import gc
from collections.abc import Callable

import torch

from .config import RunConfig
from .exits import Diverged, InvalidInput
from .rundir import RunDirectory
from .setbacks import Setback, Setbacks

LEARNING_RATES = ("learning_rate", "value_learning_rate")

Stage = Callable[[RunDirectory, RunConfig], None]


def persevere(run: RunDirectory, cfg: RunConfig, stage: Stage) -> None:
    """See `stage` to its end. Raises Diverged or InvalidInput, with advice, where a remedy did not help."""
    while True:
        adapted = remedied(cfg, run.setbacks)
        try:
            return stage(run, adapted)
        except Diverged as end:
            slow_down(run, adapted, end)
        except (RuntimeError, MemoryError) as error:
            if not ran_out_of_memory(error):
                raise
            take_smaller_bites(run, adapted)
        gc.collect()  # the networks of the try that failed, before those of the next one are loaded
        torch.cuda.empty_cache()


def remedied(cfg: RunConfig, setbacks: Setbacks) -> RunConfig:
    """The config with the remedies that earlier setbacks called for."""
    changes: dict[str, float] = {}
    if setbacks.had("not_finite"):
        changes |= {name: rate / 2 for name, rate in learning_rates(cfg).items()}
    if setbacks.had("out_of_memory"):
        changes["batch_tokens"] = max(1, cfg.batch_tokens // 2)
    return dataclasses.replace(cfg, **changes)  # type: ignore[arg-type]


def slow_down(run: RunDirectory, cfg: RunConfig, end: Diverged) -> None:
    """Note that the stage goes on at half the learning rate. Raises Diverged the second time."""
    if run.setbacks.had("not_finite"):
        rates = " and ".join(f"{name} (it was {rate:g})" for name, rate in learning_rates(cfg).items())
        raise Diverged(f"{end}, even at half the learning rate: try again with a lower {rates}") from end
    back = back_to(run)
    text = f"After step {run.step} {end}, so the stage went back to {back} and on at half the learning rate."
    run.setbacks.note(Setback("not_finite", run.step, text))


def take_smaller_bites(run: RunDirectory, cfg: RunConfig) -> None:
    """Note that the stage goes on with half the micro-batch. Raises InvalidInput the second time."""
    if run.setbacks.had("out_of_memory"):
        raise InvalidInput(
            f"the memory did not suffice, even with half the batch_tokens: set batch_tokens below {cfg.batch_tokens}"
            f"{', or lower max_response' if hasattr(cfg, 'max_response') else ''}"
        )
    half = max(1, cfg.batch_tokens // 2)
    text = (
        f"After step {run.step} the memory did not suffice, so the stage went back to {back_to(run)} and on with half"
        f" as many tokens at once (batch_tokens {half})."
    )
    run.setbacks.note(Setback("out_of_memory", run.step, text))


def back_to(run: RunDirectory) -> str:
    """Where the stage will go on, in words."""
    found = run.newest_checkpoint()
    return f"the checkpoint of step {found.step}" if found else "its start"


def learning_rates(cfg: RunConfig) -> dict[str, float]:
    """The learning rates among a stage's fields."""
    return {name: getattr(cfg, name) for name in LEARNING_RATES if hasattr(cfg, name)}


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or on the CPU, for which torch has no exception of its own."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
