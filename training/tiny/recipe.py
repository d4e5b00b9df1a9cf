"""How the tiny base model is made: the run directory of its pretraining. The engine does the rest."""

import json
from pathlib import Path

from annotate.models.prompts import Split
from annotate.services.splits import split_of
from training.rlhf.config import RunConfig, to_json
from training.tiny.corpus import corpus
from training.tiny.preset import CORPUS_SIZE, HELDOUT_SHARE


def is_held_out(group: str) -> bool:
    """Whether phrasings of `group` are kept for evaluation, as in a project whose heldout_share is HELDOUT_SHARE.

    A project with a smaller share holds out some of the same groups, so the corpus suits it as well.
    """
    return split_of(group, HELDOUT_SHARE) == Split.HELDOUT


def prepare(run_dir: Path, config: RunConfig) -> None:
    """Write config.json and data/corpus.jsonl of a pretraining run into `run_dir`."""
    write_corpus(run_dir / "data" / "corpus.jsonl", seed=config.seed)
    (run_dir / "config.json").write_text(json.dumps(to_json(config), indent=1), "utf-8")


def write_corpus(path: Path, *, seed: int) -> None:
    """Write the pretraining corpus, one conversation a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for record in corpus(seed=seed, size=CORPUS_SIZE, is_held_out=is_held_out):
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
