"""People's and models' text as HTML: Markdown, formulas and code that cannot carry markup of their own.

Nothing that was written is left out: where the rendering would show less than the text says, the text is shown as it
is. No images: a picture from elsewhere would tell its server who reads here. What differs from CommonMark stands in
markdown_rules.py.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from html import escape
from urllib.parse import unquote

import nh3
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from annotate.services.rendering.formulas import MATH_CLASSES, typeset
from annotate.services.rendering.highlighting import CODE_CLASSES, highlight
from annotate.services.rendering.markdown_rules import add_rules

PHONE = 30  # characters of a formula in a line; a longer one may be wider than a phone
CACHED_LENGTH = 20_000  # characters; longer texts are rendered each time, so that the cache stays small

_MATH = {
    "math", "semantics", "annotation", "mrow", "mi", "mn", "mo", "mtext", "mspace", "mfrac", "msqrt", "mroot", "mstyle",
    "mpadded", "mphantom", "menclose", "msub", "msup", "msubsup", "munder", "mover", "munderover", "mmultiscripts",
    "mprescripts", "mtable", "mtr", "mtd",
}  # fmt: skip
_MATH_ATTRIBUTES = {
    "accent", "accentunder", "depth", "display", "displaystyle", "encoding", "fence", "form", "height", "largeop",
    "linethickness", "lspace", "mathcolor", "mathvariant", "maxsize", "minsize", "movablelimits", "notation", "rspace",
    "scriptlevel", "separator", "stretchy", "symmetric", "voffset", "width",
}  # fmt: skip
_EACH_MATH_ATTRIBUTE = dict.fromkeys(_MATH, _MATH_ATTRIBUTES)
_EACH_MATH_CLASS = dict.fromkeys(_MATH, MATH_CLASSES)
_INLINE = {"br", "strong", "em", "s", "code", "span", "b", "i", "u"}
_BLOCKS = {
    "p", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "pre", "blockquote", "ul", "ol", "li", "a", "table", "thead",
    "tbody", "tr", "th", "td", "div",
}  # fmt: skip
_ALIGNED = {"align-left", "align-center", "align-right"}
_BOX = {"role", "tabindex", "aria-label", "dir"}
# The parser escapes raw HTML already; this is a second lock, and the only one that is audited for it.
_cleaner = nh3.Cleaner(
    tags=_BLOCKS | _INLINE | _MATH,
    attributes={
        "a": {"href"},
        "li": {"value", "data-marker"},
        "div": _BOX,
        "pre": _BOX,
        "code": {"dir"},
        **_EACH_MATH_ATTRIBUTE,
    },
    allowed_classes={
        "div": {"code", "code-head", "formula", "table-scroll", "as-typed"},
        "span": {"as-typed", "formula", "formula-long", "spaces"} | CODE_CLASSES | MATH_CLASSES,
        "th": _ALIGNED,
        "td": _ALIGNED,
        **_EACH_MATH_CLASS,
    },
    url_schemes={"http", "https", "mailto"},
    url_relative="deny",
    link_rel="noopener noreferrer nofollow",
    set_tag_attribute_values={"a": {"target": "_blank"}},  # a link opened does not lose the work on this page
)
_line_cleaner = nh3.Cleaner(
    tags=_INLINE | _MATH,
    attributes={"code": {"dir"}, **_EACH_MATH_ATTRIBUTE},
    allowed_classes={"span": {"as-typed", "spaces"} | MATH_CLASSES, **_EACH_MATH_CLASS},
)
_ALIGNMENT = re.compile(r"text-align:(\w+)")
_GAPS = re.compile(r"\n(?:[ \t]*\n)+")
_RUNS = re.compile(r"[ \t]{2,}|\t")


class _Renderer(RendererHTML):
    """Where our HTML differs from the parser's own."""

    def text(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return _RUNS.sub(lambda run: _spaces(run[0]), escape(tokens[idx].content, quote=False))

    def spaces(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return _spaces(tokens[idx].content)

    def code_inline(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return f'<code dir="ltr">{escape(tokens[idx].content, quote=False)}</code>'

    def code_block(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return _code(tokens[idx].content, "")

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return _code(tokens[idx].content, tokens[idx].info.strip())

    def formula(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        found = tokens[idx].meta["formula"]
        is_display = found.is_display and not env.get("is_line")
        mathml = typeset(found.latex, is_display=is_display)
        if mathml is None:
            return f'<span class="as-typed">{escape(found.typed, quote=False)}</span>'
        if is_display:
            return f'<span class="formula">{mathml}</span>'
        return f'<span class="formula-long">{mathml}</span>' if len(found.latex) > PHONE else mathml

    def formula_block(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        found = tokens[idx].meta["formula"]
        mathml = typeset(found.latex, is_display=True)
        if mathml is None:
            return f'<div class="as-typed">{escape(found.typed, quote=False)}</div>\n'
        return f'<div class="formula">{mathml}</div>\n'

    def table_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return f'<div class="table-scroll" role="group" tabindex="0" aria-label="{escape(_("Table"))}"><table>\n'

    def table_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return "</table></div>\n"

    def td_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        aligned = _ALIGNMENT.match(str(tokens[idx].attrs.get("style", "")))
        return f'<{tokens[idx].tag} class="align-{aligned[1]}">' if aligned else f"<{tokens[idx].tag}>"

    th_open = td_open


_parser = MarkdownIt("js-default", {"html": False, "breaks": True}, renderer_cls=_Renderer)
add_rules(_parser)


def render(text: str) -> str:
    """`text` as HTML, with nothing in it that runs, loads or leaves the page unasked."""
    if len(text) > CACHED_LENGTH:
        return _rendered.__wrapped__(text, get_language())
    return _rendered(text, get_language())


@lru_cache(maxsize=256)
def _rendered(text: str, language: str | None) -> str:
    # The language is part of the key: labels of tables and code are in it.
    env: EnvType = {}
    tokens = _parser.parse(text, env)
    if not _shows(tokens, text):
        return _cleaner.clean(f'<div class="as-typed">{escape(text, quote=False)}</div>')
    return _cleaner.clean(_parser.renderer.render(tokens, _parser.options, env))


@lru_cache(maxsize=1_024)
def render_line(text: str, length: int) -> str:
    """The beginning of `text` for a list: no links, blank lines or boxes that scroll, nothing that takes the focus."""
    shown = _GAPS.sub("\n", text.strip("\n"))
    shown = shown if len(shown) <= length else shown[: length - 1] + "…"
    env: EnvType = {"is_line": True}
    tokens = _parser.parseInline(shown, env)
    if not _shows(tokens, shown):
        return _line_cleaner.clean(f'<span class="as-typed">{escape(shown, quote=False)}</span>')
    return _line_cleaner.clean(_parser.renderer.render(tokens, _parser.options, env))


def _shows(tokens: list[Token], text: str) -> bool:
    """Whether every letter and digit of `text` is among what `tokens` show, as often as it was written.

    Where they show nothing at all (a lone ***, a fence around nothing), the marks are what was meant.
    """
    shown = Counter("".join(_contents(tokens)))
    return any(not each.isspace() for each in shown) and all(
        count <= shown[each] for each, count in Counter(text).items() if each.isalnum()
    )


def _contents(tokens: Iterable[Token]) -> Iterable[str]:
    for token in tokens:
        if token.children:
            yield from _contents(token.children)
        elif token.type != "inline":
            yield token.content
        if token.type == "link_open":
            yield unquote(str(token.attrs["href"]))
        elif token.type in ("fence", "list_item_open"):
            yield token.info


def _spaces(run: str) -> str:
    return f'<span class="spaces">{run}</span>'


def _code(code: str, info: str) -> str:
    name = escape(info or _("code"), quote=False)
    text = highlight(code, info.split(maxsplit=1)[0] if info else "")
    label = escape(_("Code"))
    return (
        f'<div class="code"><div class="code-head"><span>{name}</span></div>'
        f'<pre dir="ltr" role="group" tabindex="0" aria-label="{label}"><code>{text}</code></pre></div>\n'
    )
