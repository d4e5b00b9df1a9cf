"""What a stage does by itself about gradients that are not finite and about memory that runs out.

Either is answered once in the life of a run: the stage goes back to its newest checkpoint, as after a kill, and on at
half the learning rate or with half the micro-batch. A second time it ends with advice. Where there are several
processes, the others wait for the one in trouble and cannot go back by themselves: the attempt ends, and the next one
goes on.
"""

import dataclasses
import gc
from collections.abc import Callable

import torch

from .. import memory, ranks
from ..config import RewardConfig, RunConfig
from ..exits import Diverged, Interrupted, InvalidInput
from . import origin
from .directory import RunDirectory
from .recovery_log import Recovery, RecoveryLog

UNRELATED_TO_LEARNING_RATE = frozenset({"sampler_gap", "reference_not_finite"})
LEARNING_RATES = ("learning_rate", "value_learning_rate")

Stage = Callable[[RunDirectory, RunConfig], None]


def run_with_recovery(run: RunDirectory, cfg: RunConfig, stage: Stage) -> None:
    """Run `stage` to its end. Raises Diverged or InvalidInput, with advice, where a recovery did not help."""
    with origin.recorded(run) as begin:
        while True:
            adapted = adapted_config(cfg, run.recovery_log)
            begin(adapted)
            try:
                return stage(run, adapted)
            except Diverged as end:
                if not lower_learning_rate_helps(adapted, end):
                    raise
                run.claim_ending()
                halve_learning_rate(run, adapted, end)
            except (RuntimeError, MemoryError, OSError) as error:
                if not memory.ran_out(error):
                    raise
                run.claim_ending()
                halve_micro_batch(run, adapted)
            if ranks.count() > 1:
                raise Interrupted(run.recovery_log.entries[-1].text)
            gc.collect()  # free the failed try's networks before those of the next one are loaded
            torch.cuda.empty_cache()


def adapted_config(cfg: RunConfig, recovery_log: RecoveryLog) -> RunConfig:
    """The config with what earlier recoveries have halved."""
    if recovery_log.has("not_finite"):
        halves = {name: rate / 2 for name, rate in learning_rates(cfg).items()}
        cfg = dataclasses.replace(cfg, **halves)  # type: ignore[arg-type]
    return memory.halved(cfg) if recovery_log.has("out_of_memory") else cfg


def lower_learning_rate_helps(cfg: RunConfig, end: Diverged) -> bool:
    """Whether a lower learning rate may help: not where the fault is in the stage's inputs."""
    if not learning_rates(cfg) or end.kind in UNRELATED_TO_LEARNING_RATE:
        return False
    return end.kind != "reward_not_finite" or isinstance(cfg, RewardConfig)  # elsewhere the reward model does not learn


def halve_learning_rate(run: RunDirectory, cfg: RunConfig, end: Diverged) -> None:
    """Record that the stage goes on at half the learning rate. Raises Diverged the second time."""
    if run.recovery_log.has("not_finite"):
        rates = " and ".join(f"{name} (it was {rate:g})" for name, rate in learning_rates(cfg).items())
        raise Diverged(
            f"{end}, even at half the learning rate: try again with a lower {rates}", kind=end.kind, **end.numbers
        ) from end
    restart = restart_point(run)
    text = f"After step {run.step} {end}, so the stage went back to {restart} and continued at half the learning rate."
    run.recovery_log.add(Recovery("not_finite", run.step, text))


def halve_micro_batch(run: RunDirectory, cfg: RunConfig) -> None:
    """Record that the stage goes on with half the micro-batch. Raises InvalidInput the second time."""
    if run.recovery_log.has("out_of_memory"):
        raise InvalidInput(memory.advice(cfg), kind="memory", field="batch_tokens", batch_tokens=cfg.batch_tokens)
    restart = restart_point(run)
    text = (
        f"After step {run.step} the stage ran out of memory, so it went back to {restart} and continued with"
        f" half as many tokens per batch (batch_tokens {memory.halved(cfg).batch_tokens})."
    )
    run.recovery_log.add(Recovery("out_of_memory", run.step, text))


def restart_point(run: RunDirectory) -> str:
    """Where the stage will go on, in words."""
    found = run.newest_checkpoint()
    return f"the checkpoint of step {found.step}" if found else "the beginning"


def learning_rates(cfg: RunConfig) -> dict[str, float]:
    """The learning rates among a stage's fields."""
    return {name: getattr(cfg, name) for name in LEARNING_RATES if hasattr(cfg, name)}
