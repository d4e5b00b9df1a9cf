"""Where our side of a benchmark spends its time, and how much of the machine's arithmetic it uses."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch
from torch.profiler import ProfilerActivity
from torch.profiler import profile as profiler
from torch.utils.flop_counter import FlopCounterMode

P = ParamSpec("P")
R = TypeVar("R")

SPANS = ("generate", "score", "update")
# Operators by what they do: the first of these that has a part of an operator's name.
OPERATORS = {
    "products": ("mm",),
    "attention": ("scaled_dot_product",),
    "softmax": ("softmax", "nll_loss", "cross_entropy"),
    "moved": ("copy", "index", "cat", "fill", "gather", "scatter", "slice", "_Spread", "_Gather"),
    "elementwise": ("mul", "add", "silu", "pow", "sqrt", "mean", "neg", "div", "sum", "exp", "sub"),
}
SIDE, PRODUCTS = 512, 100  # of the matrices that are multiplied, and how often: short, so that some are not interrupted


class Clock:
    """Seconds by the name of what was done. Time in an inner span does not count for the outer one."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(SPANS, 0.0)
        self._inner = [0.0]  # seconds of the spans within each open one

    def timed(self, span: str, function: Callable[P, R]) -> Callable[P, R]:
        """The function, whose time counts for `span`."""

        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            began = time.perf_counter()
            self._inner.append(0.0)
            result = function(*args, **kwargs)
            seconds = time.perf_counter() - began
            self.seconds[span] += seconds - self._inner.pop()
            self._inner[-1] += seconds
            return result

        return call


def profile(job: dict[str, Any], step: Callable[[], int], clock: Clock) -> dict[str, Any]:
    """Shares of the wall time, GFLOP/s beside those of a bare product of matrices, and shares of the computing time.

    `wait` is the time outside of generate, score and update; `cpu` the share of the threads' time in which they ran.
    Of the computing time, the shares are those of OPERATORS; what is left are others.
    The products of matrices are counted as torch runs them in one step, so padding and attention are in the count.
    """
    warm_up, timed = job["ours"]
    for _ in range(warm_up):
        step()
    with FlopCounterMode(display=False) as counter:
        units = step()
    flop_per_unit = counter.get_total_flops() / units
    clock.seconds = dict.fromkeys(SPANS, 0.0)
    began, computed = time.perf_counter(), time.process_time()
    units = sum(step() for _ in range(timed))
    wall, cpu = time.perf_counter() - began, time.process_time() - computed
    shares = {span: seconds / wall for span, seconds in clock.seconds.items()}
    return {
        "rate": units / wall,
        **shares,
        "wait": 1 - sum(shares.values()),
        "cpu": cpu / wall / torch.get_num_threads(),
        "gflop_per_s": flop_per_unit * units / wall / 1e9,
        "fp32_matrix_gflop_per_s": matrix_rate(torch.float32),
        "bf16_matrix_gflop_per_s": matrix_rate(torch.bfloat16),
        **operator_shares(step),
    }


def operator_shares(step: Callable[[], int]) -> dict[str, float]:
    """Of the computing time of one step, by what operators do."""
    with profiler(activities=[ProfilerActivity.CPU]) as profiled:
        step()
    times = {event.key: event.self_cpu_time_total for event in profiled.key_averages()}
    shares = dict.fromkeys(OPERATORS, 0.0)
    for name, microseconds in times.items():
        kind = next((kind for kind, parts in OPERATORS.items() if any(part in name for part in parts)), None)
        if kind:
            shares[kind] += microseconds / sum(times.values())
    return shares


def matrix_rate(dtype: torch.dtype) -> float:
    """GFLOP/s of the fastest of some products of two square matrices."""
    left, right = torch.randn(2, SIDE, SIDE).to(dtype)
    fastest = float("inf")
    for _ in range(PRODUCTS):
        began = time.perf_counter()
        left @ right
        fastest = min(fastest, time.perf_counter() - began)
    return 2 * SIDE**3 / fastest / 1e9


def peak_mib() -> float:
    """The most memory that this process has held. getrusage would count what the process before its exec held."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024
