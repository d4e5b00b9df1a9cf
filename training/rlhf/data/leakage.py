"""Held-out prompts measure something only as long as nothing is trained on them: a run with a leak is refused."""

import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from ..exits import InvalidInput
from ..run.directory import RunDirectory
from .records import (
    Demonstration,
    Message,
    Prompt,
    RankedSlate,
    prompt_of,
    read_demonstrations,
    read_prompts,
    read_rankings,
)

Readers = Mapping[str, Callable[[Path], Sequence[Demonstration | Prompt | RankedSlate]]]  # by the name of the records

TRAINED_ON: Readers = {
    "demonstrations": read_demonstrations,
    "rankings": read_rankings,
    "watcher_rankings": read_rankings,
    "prompts": read_prompts,
}
HELD_OUT: Readers = {"heldout_rankings": read_rankings, "heldout_prompts": read_prompts}


def refuse_leak(run: RunDirectory) -> None:
    """Raises InvalidInput where a prompt among a run's records is both held out and trained on."""
    trained_on = {_folded(row.messages) for row in _records(run, TRAINED_ON)}
    for row in _records(run, HELD_OUT):
        if _folded(row.messages) in trained_on:
            raise InvalidInput(
                f"a held-out prompt is in the training data: {row.messages[-1]['content'][:80]!r}",
                kind="held_out_trained",
                records=[prompt_of(row)],
                what="prompts",
            )


def _records(run: RunDirectory, readers: Readers) -> Iterator[Demonstration | Prompt | RankedSlate]:
    for name, read in readers.items():
        if (path := run.data(name)).exists():
            yield from read(path)


def _folded(messages: list[Message]) -> str:
    """Equal for conversations that differ in case, white space or Unicode composition only.

    The platform folds prompts in the same way when it imports them.
    """
    lines = []
    for message in messages:
        folded = unicodedata.normalize("NFC", message["content"]).casefold()
        # Normalised again, because case folding decomposes some letters.
        words = unicodedata.normalize("NFC", folded).split()
        lines.append(f"{message['role']} {' '.join(words)}")
    return "\n".join(lines)
