"""What a decoded token costs, and what it would cost as a CUDA graph or compiled. A part of benchmarks/gpu.py.

    python -m benchmarks.device.decoding FOLDER SHAPE [--small]

FOLDER/model is what benchmarks/device/stages.py wrote. The engine has neither a graph nor a compiled step: both are
experiments around the public methods of its decoding, and stay within one width of its cache. A CPU has no graphs, and
traces the compiled step without generating code.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.device.lines import emit
from benchmarks.device.models import SHAPES
from benchmarks.device.stages import synchronized
from benchmarks.speed.ours import Models
from training.rlhf.networks.decoding import Decoding, new_decoding
from training.rlhf.networks.policy import Policy

WARM_UP, STEPS = 6, 20
ROWS, PROMPT, WIDTH = 64, 32, 64  # tokens of a prompt, and of the longest row

Step = Callable[[], Tensor]  # (A, V) logits of the next tokens


def decoding_of(policy: Policy, rows: int) -> Decoding:
    """Rows that have read a prompt each."""
    decoding = new_decoding(policy, rows, WIDTH, pad_id=0)
    decoding.join([[1 + row % 7] * PROMPT for row in range(rows)])
    take(decoding, decoding.next_logits, 2)
    return decoding


def take(decoding: Decoding, step: Step, count: int) -> float:
    """Seconds of so many tokens for every row."""
    began = synchronized()
    for _ in range(count):
        chosen = step().argmax(dim=-1)  # (A,)
        decoding.append(chosen, torch.arange(len(chosen), device=chosen.device))
    return (synchronized() - began) / count


def as_it_is(decoding: Decoding) -> float:
    """Seconds a token, as the engine decodes."""
    take(decoding, decoding.next_logits, WARM_UP)
    return take(decoding, decoding.next_logits, STEPS)


def as_a_graph(decoding: Decoding) -> float:
    """Seconds a token where one step was captured and is played again; tokens are chosen, but not appended.

    The graph reads the tensors of the rows that it was captured with, which `append` would replace.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        take(decoding, decoding.next_logits, WARM_UP - 2)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = decoding.next_logits()
    graph.replay()
    began = synchronized()
    for _ in range(STEPS):
        graph.replay()
        logits.argmax(dim=-1)
    return (synchronized() - began) / STEPS


def compiled(decoding: Decoding) -> float:
    """Seconds a token where torch has compiled the step."""
    backend = "inductor" if torch.cuda.is_available() else "eager"
    step = torch.compile(decoding.next_logits, backend=backend)
    take(decoding, step, WARM_UP)
    return take(decoding, step, STEPS)


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    rows = 4 if options.small else ROWS
    policy = Models(options.folder).policy().for_sampling()
    ways = [as_it_is, as_a_graph, compiled] if torch.cuda.is_available() else [as_it_is, compiled]
    for way in ways:
        began = synchronized()
        with torch.no_grad():
            try:
                seconds = way(decoding_of(policy, rows))
                figures = {"ms_per_token_of_a_row": 1000 * seconds, "rate": rows / seconds, "unit": "new tokens/s"}
            except Exception as error:  # an experiment may fail in any way; the next one is still made
                figures = {"failed": f"{type(error).__name__}: {str(error)[:200]}"}
        took = synchronized() - began
        emit(f"decoding, {way.__name__.replace('_', ' ')}", shape=options.shape, rows=rows, **figures, seconds=took)


if __name__ == "__main__":
    main()
