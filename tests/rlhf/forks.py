"""Processes of their own that need not import torch first: each is a fork of one that has, and has loaded nothing."""

import multiprocessing

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["training.rlhf.stages.sft", "training.rlhf.stages.reward", "training.rlhf.stages.ppo", "tests.rlhf.tiny_models"]
)
