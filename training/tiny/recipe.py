"""How the built-in tiny base model is made. BASE holds the result, so that no project waits for a pretraining.

`manage.py pretrain_tiny_base` makes it anew; a test compares the bytes.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from annotate.models.prompts import Split
from annotate.services.splits import split_of
from training.rlhf.config import PretrainingConfig, to_json
from training.tiny.corpus import corpus
from training.tiny.preset import CORPUS_SIZE, HELDOUT_SHARE

BASE = Path(__file__).parent / "base_model"
SEED = 0
PRETRAINING: dict[str, Any] = {
    "vocab_size": 2048,
    "context": 128,
    "tokens": 1_000_000,
    "batch_size": 16,
    "learning_rate": 4e-3,
}
# Kernels that give the same sums on every x86 machine, whatever instructions it has: some 20 % slower.
PORTABLE = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "OMP_NUM_THREADS": "1"}


def is_held_out(group: str) -> bool:
    """Whether phrasings of `group` are kept for evaluation, as in a project whose heldout_share is HELDOUT_SHARE.

    A project with a smaller share holds out some of the same groups, so the corpus suits it as well.
    """
    return split_of(group, HELDOUT_SHARE) == Split.HELDOUT


def config() -> PretrainingConfig:
    """How the shipped model was pretrained."""
    return PretrainingConfig(seed=SEED, threads=1, dtype="fp32", **PRETRAINING)


def prepare(run_dir: Path, config: PretrainingConfig) -> None:
    """Write config.json and data/corpus.jsonl of a pretraining run into `run_dir`."""
    write_corpus(run_dir / "data" / "corpus.jsonl", seed=config.seed)
    (run_dir / "config.json").write_text(json.dumps(to_json(config), indent=1), "utf-8")


def write_corpus(path: Path, *, seed: int) -> None:
    """Write the pretraining corpus, one conversation a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for record in corpus(seed=seed, size=CORPUS_SIZE, is_held_out=is_held_out):
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def pretrain(run_dir: Path, target: Path) -> None:
    """Train the tiny base model in `run_dir`, and put it into `target`. Raises CalledProcessError."""
    prepare(run_dir, config())
    (run_dir / "fence").write_text("1")
    command = [sys.executable, "-m", "training.rlhf", "pretraining", str(run_dir)]
    subprocess.run(command, env=os.environ | PORTABLE, check=True)
    shutil.copytree(run_dir / "attempts" / "1" / "output", target, dirs_exist_ok=True)
