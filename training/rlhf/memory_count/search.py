"""The settings with which a stage fits into so much memory, found by counting: those that do least harm come first.

Offered is only what leaves the result as it is, up to rounding: activations computed again, smaller micro-batches,
fewer answers written at once. What is changed next is what the highest moment is made of.
"""

import dataclasses
from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

from .. import memory
from ..config import AnsweringConfig, LearningConfig, RunConfig, has_adapters
from .peaks import Peak
from .run_count import RunCount

AUTO = ("activation_checkpointing", "sharding")  # settings that a run may decide by itself


class Variant(NamedTuple):
    """A config that was counted: the run's own, but for `settings`."""

    settings: dict[str, Any]
    cfg: RunConfig
    peaks: list[Peak]

    @classmethod
    def of(cls, run: RunCount, cfg: RunConfig, variant: RunConfig) -> "Variant":
        """The count of `variant`, a config that came of the run's `cfg`."""
        before, after = dataclasses.asdict(cfg), dataclasses.asdict(variant)
        own = {name for name in AUTO if before.get(name) == "auto"}
        if isinstance(cfg, LearningConfig) and not _can_shard(cfg):
            own.add("sharding")
        changed = {name: value for name, value in after.items() if value != before[name] and name not in own}
        return cls(changed, variant, run.peaks(variant))

    @property
    def highest(self) -> Peak:
        return max(self.peaks, key=lambda peak: peak.total)


def variants(run: RunCount, cfg: RunConfig, within: int) -> list[Variant]:
    """The run's own config, then with ever more changed, until it fits into `within` bytes or nothing more helps.

    What it leaves to auto is decided as the run decides it: in one way after the other, until one fits.
    """
    counted: list[Variant] = []
    for own in decided(cfg, run.kind):
        counted.append(Variant.of(run, cfg, own))
        if memory.fits(counted[-1].highest.total, within):
            return counted
    while lighter := _lighter(run, cfg, counted[-1]):
        counted.append(lighter)
        if memory.fits(lighter.highest.total, within):
            break
    return counted


def decided(cfg: RunConfig, kind: str) -> list[RunConfig]:
    """The config with each auto decided, in each way: what is faster comes first, what takes less memory last.

    Nothing is sharded with one process or with adapters, whose base is shared by several networks; nor, where it is
    left to the memory, on a CPU, whose processes share theirs.
    """
    if not isinstance(cfg, LearningConfig):
        return [cfg]
    sharding = {"auto": ("off", "on") if kind != "cpu" else ("off",)}.get(cfg.sharding, (cfg.sharding,))
    recomputing = {"auto": ("off", "on")}.get(cfg.activation_checkpointing, (cfg.activation_checkpointing,))
    return [
        dataclasses.replace(cfg, sharding=shards, activation_checkpointing=recomputes)
        for shards, recomputes in product(sharding if _can_shard(cfg) else ("off",), recomputing)
    ]


def _can_shard(cfg: LearningConfig) -> bool:
    return cfg.processes > 1 and not has_adapters(cfg)


def _lighter(run: RunCount, cfg: RunConfig, now: Variant) -> Variant | None:
    """The first change that lowers the moment that is highest now."""
    highest = now.peaks.index(now.highest)
    for candidate in _candidates(run, now):
        variant = Variant.of(run, cfg, candidate)
        if variant.peaks[highest].total < now.highest.total:
            return variant
    return None


def _candidates(run: RunCount, now: Variant) -> Iterator[RunConfig]:
    """Configs with less at the highest moment, those that do least harm first."""
    cfg, highest = now.cfg, now.highest
    if isinstance(cfg, AnsweringConfig) and highest.cache:
        # Larger ones change nothing. Nor may the first of these: a cache takes a little more than what is in it.
        fewer = [cache for cache in _halves(cfg.cache_mb) if cache * 1_000_000 < highest.cache]
        yield from (dataclasses.replace(cfg, cache_mb=cache) for cache in fewer)
        return
    if isinstance(cfg, LearningConfig) and highest.gradients and cfg.activation_checkpointing == "off":
        yield dataclasses.replace(cfg, activation_checkpointing="on")
    if isinstance(cfg, LearningConfig) and _can_shard(cfg) and cfg.sharding == "off":
        yield dataclasses.replace(cfg, sharding="on")
    at_once = run.tokens_at_once(cfg)
    for tokens in _halves(cfg.batch_tokens):
        lighter = dataclasses.replace(cfg, batch_tokens=tokens)
        if run.tokens_at_once(lighter) < at_once:
            yield lighter
            return


def _halves(number: int) -> Iterator[int]:
    """Half of it, half of that, and so on down to 1."""
    while number > 1:
        number //= 2
        yield number
