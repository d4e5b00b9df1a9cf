"""A stage whose micro-batch does not fit into memory, and how it goes on. A part of benchmarks/gpu.py.

    python -m benchmarks.device.shortage FOLDER SHAPE [--small]

The same SFT runs with a micro-batch, with half of it, and with the whole one again where the process may reserve no
more than the middle between what both needed. A CPU has no such limit: there the engine's failpoint says that memory
ran out.
"""

import argparse
import gc
import json
import os
from pathlib import Path

import torch

from benchmarks.device.lines import Record, emit
from benchmarks.device.models import SHAPES, Texts, write_model
from tests.rlhf.run_directories import write_run
from training.rlhf import failpoints
from training.rlhf.__main__ import main as engine
from training.rlhf.run.recovery_log import FILE

WORDS = 120  # of a prompt, and of an answer
ROWS = 128  # of the batch: with two tokens a word, as many tokens as the micro-batch
BATCH_TOKENS = 65_536


class Shortage:
    """SFT on one model, two steps in each run."""

    def __init__(self, folder: Path, shape: str, *, small: bool) -> None:
        self.folder, self.shape = folder, shape
        self.base = write_model(folder / "model", SHAPES[shape])
        self.rows, words = (4, 8) if small else (ROWS, WORDS)
        self.batch_tokens = 128 if small else BATCH_TOKENS
        self.demonstrations = Texts(words, words).demonstrations(self.rows)

    def train(self, name: str, batch_tokens: int) -> Record:
        """What came of a run."""
        run = write_run(
            self.folder / name,
            "sft",
            parents={"base": self.base},
            data={"demonstrations": self.demonstrations},
            dtype="auto",
            epochs=2,
            batch_size=self.rows,
            batch_tokens=batch_tokens,
            max_response=4 * WORDS,
        )
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        code = engine(["sft", str(run)])
        recorded = run / "attempts/1" / FILE
        return {
            "exit_status": code,
            "peak_reserved_bytes": torch.cuda.max_memory_reserved() if torch.cuda.is_available() else None,
            "recorded": [entry["text"] for entry in json.loads(recorded.read_text())] if recorded.exists() else [],
        }

    def emit(self, name: str, batch_tokens: int) -> int | None:
        """Print what came of a run; returns the bytes that it reserved."""
        line = self.train(name, batch_tokens)
        emit(f"memory, {name}", shape=self.shape, batch_tokens=batch_tokens, **line)
        reserved: int | None = line["peak_reserved_bytes"]
        return reserved


def main() -> None:
    """Print a line for each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    shortage = Shortage(options.folder, options.shape, small=options.small)
    whole = shortage.emit("enough", shortage.batch_tokens)
    half = shortage.emit("enough for half", shortage.batch_tokens // 2)
    if whole and half:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction((whole + half) / 2 / total)
    else:
        (options.folder / "engine-alive.1").write_text("out_of_memory after step 1")
        os.environ[failpoints.VARIABLE] = str(options.folder)
    shortage.emit("too little", shortage.batch_tokens)


if __name__ == "__main__":
    main()
