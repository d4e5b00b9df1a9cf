r"""Where a formula begins and ends in a text: $…$, $$…$$, \(…\), \[…\] and environments. Money is no formula."""

from __future__ import annotations

import re
from typing import NamedTuple

from markdown_it.rules_block import StateBlock

# More than a formula may have (formulas.py): one that is too long is found, and left as it was typed, all of it.
_WINDOW = 8_000
_DEPTH = 50  # environments within their own kind

_NAMES = (
    "equation", "align", "gather", "multline", "alignat", "flalign", "eqnarray", "split", "aligned", "gathered",
    "alignedat", "cases", "dcases", "rcases", "drcases", "matrix", "pmatrix", "bmatrix", "Bmatrix", "vmatrix",
    "Vmatrix", "smallmatrix", "array", "darray", "subarray", "displaymath", "math",
)  # fmt: skip
_BEGIN = re.compile(r"\\begin\{((?:" + "|".join(_NAMES) + r")\*?)\}")
_OPENER = re.compile(r"\$\$|\\\[|" + _BEGIN.pattern)
_PUNCTUATION = re.compile(r"[ \t]*([.,;:!?]?)\s*$")

# Two words in a row, outside \text{…} and its like, or what only Markdown has, are no mathematics.
_COMMAND = re.compile(r"\\[a-zA-Z]+\*?\s*(?:\{[^{}]*\})?")
_PROSE = re.compile(r"(?<![a-zA-Z])[a-zA-Z]{2,}[ \n]+[a-zA-Z]{2,}(?![a-zA-Z])|\*\*|`|\]\(")
_NO_END = re.compile(r"[0-9({\[_$]|(?!(?:th|st|nd|rd|s)\b)[a-zA-Z]")  # after a closing $: $5 or $6, $HOME:$PATH


class Formula(NamedTuple):
    """A formula as it was found."""

    typed: str  # delimiters included
    latex: str  # without them, but for those of an environment
    is_display: bool
    end_line: int = 0  # of a block: the first line after it


def find_inline(text: str, begin: int, end: int) -> Formula | None:
    """The formula that begins at `begin`, if one does and ends before `end`."""
    end = min(end, begin + _WINDOW)
    if text.startswith("$$", begin, end):
        return _delimited(text, begin, end, "$$", "$$")
    if text[begin] == "$":
        return _between_dollars(text, begin, end)
    if text.startswith(r"\(", begin, end):
        return _delimited(text, begin, end, r"\(", r"\)")
    if text.startswith(r"\[", begin, end):
        return _delimited(text, begin, end, r"\[", r"\]")
    if found := _BEGIN.match(text, begin, end):
        return _environment(text, begin, end, found[1])
    return None


def find_block(state: StateBlock, start_line: int, end_line: int) -> Formula | None:
    """The formula that fills the lines from `start_line` on, alone but for a mark of punctuation."""
    begin = state.bMarks[start_line] + state.tShift[start_line]
    opener = _OPENER.match(state.src, begin, state.eMarks[start_line])
    if opener is None:
        return None
    located = find_inline(state.src, begin, state.eMarks[end_line - 1])
    if located is None or not located.is_display:
        return None
    stands_alone = state.src[begin : state.eMarks[start_line]].strip() == opener[0]
    after = start_line + 1
    while after < end_line and state.bMarks[after] < begin + len(located.typed):
        if state.sCount[after] < state.blkIndent or (state.isEmpty(after) and not stands_alone):
            return None
        after += 1
    # Once more without what stands before the lines of a quote or a list
    lines = state.getLines(start_line, after, state.blkIndent, False).lstrip(" ")
    found = find_inline(lines, 0, len(lines))
    if found is None:
        return None
    punctuation = _PUNCTUATION.match(lines, len(found.typed))
    if punctuation is None:
        return None
    return Formula(
        typed=found.typed + punctuation[1],
        latex=found.latex + punctuation[1],
        is_display=True,
        end_line=after,
    )


def _delimited(text: str, begin: int, end: int, opener: str, closer: str) -> Formula | None:
    start = begin + len(opener)
    close = _find_unescaped(text, closer, start, end)
    latex = text[start:close]
    if close < 0 or not latex.strip() or (opener == "$$" and _is_prose(latex)):
        return None
    return Formula(text[begin : close + len(closer)], latex, is_display=opener != r"\(")


def _between_dollars(text: str, begin: int, end: int) -> Formula | None:
    close = _find_unescaped(text, "$", begin + 1, end)
    latex = text[begin + 1 : close]
    if close < 0 or latex != latex.strip() or not latex or _is_prose(latex) or _NO_END.match(text, close + 1, end):
        return None
    before = text[begin - 1] if begin else " "
    if before.isascii() and before.isalnum():  # US$5
        return None
    return Formula(text[begin : close + 1], latex, is_display=False)


def _environment(text: str, begin: int, end: int, name: str) -> Formula | None:
    depth = 0
    for tag in re.compile(r"\\(begin|end)\{" + re.escape(name) + r"\}").finditer(text, begin, end):
        depth += 1 if tag[1] == "begin" else -1
        if depth == 0:
            typed = text[begin : tag.end()]
            return Formula(typed, typed, is_display=name != "math")
        if depth > _DEPTH:
            break
    return None


def _find_unescaped(text: str, closer: str, begin: int, end: int) -> int:
    close = text.find(closer, begin, end)
    while close >= 0 and _is_escaped(text, begin, close):
        close = text.find(closer, close + 1, end)
    return close


def _is_escaped(text: str, begin: int, at: int) -> bool:
    first = at
    while first > begin and text[first - 1] == "\\":
        first -= 1
    return (at - first) % 2 == 1


def _is_prose(latex: str) -> bool:
    return _PROSE.search(_COMMAND.sub(" ", latex)) is not None
