"""Answers: what a sampling run wrote to a question goes beside the question, and nowhere else."""

from __future__ import annotations

from pathlib import Path

from annotate.services.text import repair_text
from training.models import Answer, Run
from training.rlhf.data.records import read_completions


def belongs_to_question(run: Run) -> bool:
    """Whether `run` answers a question of an admin instead of working for a round."""
    return Answer.objects.filter(run=run).exists()


def take(run: Run, output: Path) -> None:
    """Keep what `run` wrote. Called inside the transaction that ends the run."""
    rows = read_completions(output / "completions.jsonl")
    texts = [{"text": repair_text(row.text)[0], "finish_reason": row.finish_reason} for row in rows]
    Answer.objects.filter(run=run).update(texts=texts)
