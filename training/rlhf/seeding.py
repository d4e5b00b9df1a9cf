"""Every random draw has a name: nothing is taken from a global stream.

A draw depends on what it is for and not on what was drawn before it, so it is the same in any batch, on any worker
and after any resume.
"""

import hashlib
import json

import torch
from torch import Tensor


def generator(seed: int, stage: str, step: int = 0, prompt_id: str = "", sample: int = 0) -> torch.Generator:
    """A CPU generator for exactly this draw."""
    name = json.dumps([seed, stage, step, prompt_id, sample])
    digest = hashlib.sha256(name.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def uniforms(count: int, draw: torch.Generator) -> Tensor:
    """(count,) float64 in [0, 1)."""
    return torch.rand(count, generator=draw, dtype=torch.float64)


def permutation(count: int, draw: torch.Generator) -> list[int]:
    """The numbers below `count` in random order."""
    order: list[int] = torch.randperm(count, generator=draw).tolist()
    return order
