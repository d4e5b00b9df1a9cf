"""The watcher: a reward model that PPO never climbs. It is trained as the other one is, from slates of its own."""

from .reward import run_stage

__all__ = ["run_stage"]
