"""What an independent judge adds to the time of PPO where the run that says how long PPO takes was not watched.

A run that was watched has its trial and its measurements in the time that it took, so nothing is added to that.
"""

from __future__ import annotations

from datetime import timedelta

from training.models import Run
from training.rlhf.config import PPOConfig, parse
from training.rlhf.exits import InvalidInput
from training.services.run_files.reader import RunFiles


def config_of(files: RunFiles) -> PPOConfig | None:
    """The config of a PPO run; None where its directory is gone, and where an older version wrote it differently."""
    try:
        config = parse(files.config)
    except InvalidInput:
        return None
    return config if isinstance(config, PPOConfig) else None


def added_to(earlier: Run, planned: PPOConfig, prompts: int) -> timedelta | None:
    """At most how much longer than `earlier` it takes, being watched as `planned` says; None where nothing tells.

    The answers of trial and measurements are counted at the pace of those of the earlier run's rollouts. Those were
    trained on as well, so it will take less.
    """
    files = RunFiles(earlier)
    config, pace = config_of(files), files.pace
    if config and config.is_watched:
        return timedelta()
    if config is None or pace is None:
        return None
    return pace.of_step / config.rollout_size * planned.count_gauge_answers(prompts)
