"""Numbers of tokens that come again, for products in bf16 on a CPU.

There oneDNN compiles a kernel for every new shape of a product, which takes several times as long as the product itself
in a small network. Batches hardly ever have as many tokens as one before. So a few tokens of padding are computed with
them: of the shapes that are left most come again, and their kernels are there.
"""

import torch.nn.functional as F
from torch import Tensor

from . import device

DIGITS = 5  # binary digits before the zeros, so that at most a sixteenth more tokens are computed


def rounded_up(count: int) -> int:
    """The next number from `count` on whose binary digits after the first DIGITS are zeros."""
    step: int = 1 << max(0, (count - 1).bit_length() - DIGITS)
    return -(-count // step) * step


def padding(count: int, *, bf16: bool) -> int:
    """How many tokens of padding are computed with `count` tokens; none in fp32 or on an accelerator."""
    return rounded_up(count) - count if bf16 and not device.on_accelerator() else 0


def padded(rows: Tensor, count: int) -> Tensor:
    """(N + count, ...) from (N, ...), with zeros behind."""
    return F.pad(rows, (0, 0) * (rows.dim() - 1) + (0, count)) if count else rows
