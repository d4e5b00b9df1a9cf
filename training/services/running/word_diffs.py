"""Word diffs: what two answers have in common and what only one of them has, in pieces that a page can mark."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import NamedTuple

KEPT, CHANGED = "kept", "changed"
LONGEST = 4_000  # characters whose words are compared; time grows with the product of both. The rest is one word.

Piece = tuple[str, str]  # KEPT or CHANGED, and the text


class WordDiff(NamedTuple):
    """Both texts in pieces, whole when joined, and how different they are: 0 the same, 1 nothing in common."""

    before: list[Piece]
    after: list[Piece]
    change: float


def compare(before: str, after: str) -> WordDiff:
    """Mark what `after` no longer says in `before`, and what it says anew."""
    old, new = _words(before), _words(after)
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    left: list[Piece] = []
    right: list[Piece] = []
    for kind, i, j, k, m in matcher.get_opcodes():
        mark = KEPT if kind == "equal" else CHANGED
        if j > i:
            left.append((mark, "".join(old[i:j])))
        if m > k:
            right.append((mark, "".join(new[k:m])))
    return WordDiff(left, right, round(1 - matcher.ratio(), 4))


def joined(pieces: Iterable[Piece]) -> str:
    """The whole text that was compared."""
    return "".join(text for _kind, text in pieces)


def _words(text: str) -> list[str]:
    """The words of a text, each with the space after it."""
    rest = text[LONGEST:]
    return re.findall(r"\S+\s*|\s+", text[:LONGEST]) + ([rest] if rest else [])
