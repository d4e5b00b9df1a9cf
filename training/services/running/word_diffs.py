"""Word diffs: what two answers have in common and what only one of them has, in pieces that a page can mark."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import NamedTuple

KEPT, CHANGED = "kept", "changed"
LONGEST = 4_000  # characters that are compared of each; time grows with the product of both

Piece = tuple[str, str]  # KEPT or CHANGED, and the text


class WordDiff(NamedTuple):
    """Both texts in pieces, and how different they are: 0 the same, 1 nothing in common."""

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


def _words(text: str) -> list[str]:
    """The words of a text, each with the space after it."""
    return re.findall(r"\S+\s*|\s+", text[:LONGEST])
