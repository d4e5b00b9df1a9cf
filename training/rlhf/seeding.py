"""Every use of randomness has a generator of its own, seeded by the name of that use; there is no global stream.

So a random number depends on what it is for and not on what was drawn before it, and is the same in any batch, on any
worker and after any resume.
"""

import hashlib
import json

import torch
from torch import Tensor


def generator(seed: int, stage: str, step: int = 0, prompt_id: str = "", sample: int = 0) -> torch.Generator:
    """A CPU generator for exactly this use, seeded by the SHA-256 of its name."""
    name = json.dumps([seed, stage, step, prompt_id, sample])
    digest = hashlib.sha256(name.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def uniforms(count: int, generator: torch.Generator) -> Tensor:
    """(count,) float64 in [0, 1)."""
    return torch.rand(count, generator=generator, dtype=torch.float64)


def permutation(count: int, generator: torch.Generator) -> list[int]:
    """The numbers below `count` in random order."""
    order: list[int] = torch.randperm(count, generator=generator).tolist()
    return order
