"""The machine, and how fast it multiplies matrices and copies memory. A part of benchmarks/gpu.py.

    python -m benchmarks.device.matrices [--small]

The fastest product of two square matrices in bf16 is the peak that every share in the other lines is of.
"""

import argparse
import platform
from collections.abc import Callable

import torch
import transformers

from benchmarks.device.lines import DEVICE, emit
from benchmarks.device.stages import synchronized

SIDES = (4096, 8192, 16_384)
TRIES = 5
FEWEST_S = 0.05  # of a try


def fastest(work: Callable[[], object]) -> float:
    """Seconds of `work`, in the fastest of some tries."""
    work()
    began = synchronized()
    work()
    often = max(1, int(FEWEST_S / (synchronized() - began)))
    seconds = []
    for _ in range(TRIES):
        began = synchronized()
        for _ in range(often):
            work()
        seconds.append((synchronized() - began) / often)
    return min(seconds)


def matrix_tflop_per_s(side: int, dtype: torch.dtype) -> float:
    """The rate of a product of two square matrices."""
    left, right = torch.randn(2, side, side, device=DEVICE).to(dtype)
    return 2e-12 * float(side) ** 3 / fastest(lambda: left @ right)


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    on_gpu = torch.cuda.is_available()
    emit(
        "machine",
        device=torch.cuda.get_device_name() if on_gpu else "cpu",
        memory_mib=torch.cuda.get_device_properties(0).total_memory // 2**20 if on_gpu else None,
        python=platform.python_version(),
        torch=torch.__version__,
        cuda=torch.version.cuda,
        transformers=transformers.__version__,
    )
    sides = (256,) if options.small else SIDES
    for dtype in (torch.bfloat16, torch.float32):
        rates = {side: matrix_tflop_per_s(side, dtype) for side in sides}
        side = max(rates, key=lambda side: rates[side])
        emit("matrices", dtype=str(dtype).removeprefix("torch."), side=side, matrix_tflop_per_s=rates[side])
    source = torch.zeros(2**20 if options.small else 2**30, device=DEVICE)
    target = torch.empty_like(source)
    emit("copying", gb_per_s=2 * source.nbytes / fastest(lambda: target.copy_(source)) / 1e9)


if __name__ == "__main__":
    main()
