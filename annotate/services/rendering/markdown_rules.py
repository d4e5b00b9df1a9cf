"""Where our Markdown differs from CommonMark: what people read is what was written.

Markdown gives marks a meaning that their writer may not have meant, and swallows some of what it reads. Each rule here
takes such a meaning away, or keeps what would be lost; formulas are the one thing that is added.
"""

from __future__ import annotations

import re
import unicodedata

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_block.blockquote import blockquote
from markdown_it.rules_block.heading import heading
from markdown_it.rules_block.list import list_block
from markdown_it.rules_block.table import escapedSplit, getLine, table
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.rules_inline.link import link

from annotate.services.rendering.formula_syntax import find_block, find_inline

SCHEMES = ("http://", "https://", "mailto:")  # links lead to other sites only, never into these pages

_ESCAPABLE = "*_`~#$|"  # a backslash before anything else stands for itself: \, and \\ are no Markdown
_MARK_ALONE = re.compile(r"(?:[-+*]|\d{1,9}[.)])[ \t]*\Z")
_YEAR = re.compile(r"\d{4,9}[.)]")
_IDENTIFIER = re.compile(r"_+[^\W_]\w*_(?!\w)")


def add_rules(md: MarkdownIt) -> None:
    """Teach `md` the rules of this module."""
    md.disable(["image", "entity", "reference", "lheading", "html_block", "html_inline"])
    md.validateLink = lambda url: url.lower().startswith(SCHEMES)  # type: ignore[method-assign]
    md.block.ruler.before("table", "formula", _formula_block, {"alt": ["paragraph", "blockquote", "list"]})
    md.block.ruler.at("table", _table, {"alt": ["paragraph"]})
    md.block.ruler.at("blockquote", _quote, {"alt": ["paragraph", "blockquote", "list"]})
    md.block.ruler.at("list", _list, {"alt": ["paragraph", "blockquote"]})
    md.block.ruler.at("heading", _heading, {"alt": ["paragraph", "blockquote"]})
    md.inline.ruler.at("newline", _newline)
    md.inline.ruler.before("escape", "formula", _formula)
    md.inline.ruler.at("escape", _escape)
    md.inline.ruler.before("strikethrough", "inside_words", _inside_words)
    md.inline.ruler.at("link", _link)
    md.core.ruler.before("inline", "indents", _keep_indents)
    md.core.ruler.after("inline", "markers", _keep_markers)


def _formula_block(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    if state.is_code_block(start_line):
        return False
    found = find_block(state, start_line, end_line)
    if found is None:
        return False
    if not silent:
        token = state.push("formula_block", "math", 0)
        token.content, token.meta = found.typed, {"formula": found}
        token.map = [start_line, found.end_line]
        state.line = found.end_line
    return True


def _formula(state: StateInline, silent: bool) -> bool:
    if state.src[state.pos] not in "$\\":
        return False
    found = find_inline(state.src, state.pos, state.posMax)
    if found is None:
        return False
    if not silent:
        token = state.push("formula", "math", 0)
        token.content, token.meta = found.typed, {"formula": found}
    state.pos += len(found.typed)
    return True


def _table(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    """No table where a row has more cells than the head, since the rest of that row would not be shown."""
    count = len(state.tokens)
    if not table(state, start_line, end_line, silent):
        return False
    if silent:
        return True
    columns = sum(token.type == "th_open" for token in state.tokens[count:])
    for line in range(start_line + 2, state.line):
        cells = escapedSplit(getLine(state, line).strip())
        if len(cells) - (cells[0] == "") - (len(cells) > 1 and cells[-1] == "") > columns:
            del state.tokens[count:]
            state.line = start_line
            return False
    return True


def _quote(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    """No quote where a line begins like those of an interactive session, nor one that quotes nothing."""
    if getLine(state, start_line).startswith(">>>"):
        return False
    count = len(state.tokens)
    return blockquote(state, start_line, end_line, silent) and (silent or _says_something(state, start_line, count))


def _list(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    """No list that begins with an empty item, since a mark that stands alone stands for itself, or with a year."""
    if _YEAR.match(getLine(state, start_line)):
        return False
    is_empty = _MARK_ALONE.match(getLine(state, start_line)) and not (
        start_line + 1 < end_line
        and not state.isEmpty(start_line + 1)
        and state.sCount[start_line + 1] > state.sCount[start_line]
    )
    return not is_empty and list_block(state, start_line, end_line, silent)


def _heading(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    """No heading without words: its marks would not be shown."""
    count = len(state.tokens)
    return heading(state, start_line, end_line, silent) and (silent or _says_something(state, start_line, count))


def _says_something(state: StateBlock, start_line: int, count: int) -> bool:
    """Whether the tokens from `count` on are more than the marks of an empty block; if not, they are taken back."""
    is_marks = not any(token.content or token.type == "hr" for token in state.tokens[count:])
    if not is_marks or any(map(str.isalnum, state.getLines(start_line, state.line, 0, False))):
        return True
    del state.tokens[count:]
    state.line = start_line
    return False


def _newline(state: StateInline, silent: bool) -> bool:
    """A line break that keeps the spaces after it."""
    if state.src[state.pos] != "\n":
        return False
    if not silent:
        state.pending = state.pending.rstrip(" ")
        state.push("softbreak", "br", 0)
        after = state.src[state.pos + 1 : state.posMax]
        if spaces := after[: len(after) - len(after.lstrip(" \t"))]:
            state.push("spaces", "span", 0).content = spaces
            state.pos += len(spaces)
    state.pos += 1
    return True


def _escape(state: StateInline, silent: bool) -> bool:
    pair = state.src[state.pos : min(state.pos + 2, state.posMax)]
    if len(pair) < 2 or pair[0] != "\\" or pair[1] == "\n":
        return False
    if not silent:
        state.append_pending(pair[1] if pair[1] in _ESCAPABLE else pair)
    state.pos += 2
    return True


def _inside_words(state: StateInline, silent: bool) -> bool:
    """Stars, tildes and underscores that stand for themselves.

    They do inside a word (2*3*4, f(a)*b; scripts without spaces between words are no such words), and in what looks
    like one identifier: __init__, _x_. Several words between underscores are emphasised as anywhere else.
    """
    mark = state.src[state.pos]
    if silent or mark not in "*_~":
        return False
    before = state.src[state.pos - 1] if state.pos else " "
    end = state.pos
    while end < state.posMax and state.src[end] == mark:
        end += 1
    after = state.src[end] if end < state.posMax else " "
    if (_is_word(before) or before in ")]}") and (_is_word(after) or after in "([{"):
        length = end - state.pos
    elif mark == "_" and not _is_word(before) and (name := _IDENTIFIER.match(state.src, state.pos, state.posMax)):
        length = len(name[0])
    else:
        return False
    state.append_pending(state.src[state.pos : state.pos + length])
    state.pos += length
    return True


def _is_word(character: str) -> bool:
    if character.isascii():
        return character.isalnum()
    return unicodedata.category(character)[0] in "LN" and unicodedata.category(character) != "Lo"


def _link(state: StateInline, silent: bool) -> bool:
    """No link that shows nothing or leads nowhere, nor one that says more to a pointer that rests on it."""
    start, count = state.pos, len(state.tokens)
    if not link(state, silent):
        return False
    if silent:
        return True
    opening = next(n for n in range(count, len(state.tokens)) if state.tokens[n].type == "link_open")
    attributes = state.tokens[opening].attrs
    if attributes["href"] and "title" not in attributes and any(token.content for token in state.tokens[opening:]):
        return True
    del state.tokens[opening:]
    del state.tokens_meta[opening:]
    state.pos = start
    return False


def _keep_indents(state: StateCore) -> None:
    """A paragraph's first line keeps its spaces, as the others do."""
    lines = state.src.split("\n")
    for before, token in zip(state.tokens, state.tokens[1:], strict=False):
        if before.type == "paragraph_open" and before.level == 0 and token.map:
            line = lines[token.map[0]]
            token.content = line[: len(line) - len(line.lstrip(" "))] + token.content


def _keep_markers(state: StateCore) -> None:
    """The items of a list are numbered as they were, 1) and 1. apart, and not renumbered."""
    is_ordered: list[bool] = []
    for token in state.tokens:
        if token.type in ("ordered_list_open", "bullet_list_open"):
            is_ordered.append(token.type == "ordered_list_open")
            token.attrs.pop("start", None)
        elif token.type in ("ordered_list_close", "bullet_list_close"):
            is_ordered.pop()
        elif token.type == "list_item_open" and is_ordered[-1]:
            token.attrs = {"value": int(token.info), "data-marker": f"{token.info}{token.markup}"}
