"""LaTeX formulas as MathML. What cannot be typeset whole is not typeset at all: the caller shows it as it was typed.

No macros of the writer's own, no links and no labels: a formula says what it shows, and shows what it says.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import lru_cache
from html import escape, unescape

from math_core import LatexError, LatexToMathML

LENGTH_LIMIT = 4_000  # characters
# The converter is recursive and native: what nests too deeply would end the process. A level takes up to 4 KiB of the
# stack, and the smallest stack among our threads has 2 MiB.
DEPTH_LIMIT = 60

# Commands that people use and the converter does not know under this name
_MACROS = {
    "mbox": r"\text{#1}",
    "hbox": r"\text{#1}",
    "textnormal": r"\text{#1}",
    "textup": r"\text{#1}",
    "mathds": r"\mathbb{#1}",
    "mathbbm": r"\mathbb{#1}",
    "mathnormal": r"#1",
    "ensuremath": r"#1",
    "pmb": r"\boldsymbol{#1}",
    "hdots": r"\dots",
    "dotsb": r"\cdots",
    "dotsc": r"\ldots",
    "dotsm": r"\cdots",
    "hfill": r"\quad",
}
_converter = LatexToMathML(macros=_MACROS, fancy_error=False, allow_unreliable_rendering=True)

# Definitions may expand without end, labels and references point out of the formula, a comment or a phantom hides
# what it says, and what is raised may lie over other people's words.
_REFUSED = re.compile(
    r"\\(?:(?:re)?newcommand|providecommand|[egx]?def|let|global|label|eqref|ref|[hv]?phantom|raisebox)(?![a-zA-Z])|(?<!\\)(?:\\\\)*%"
)
# Spaces that would push what they say out of sight, or over something else
_FARTHEST_EM = 5
_SPACE = re.compile(r"\\(?:[hv]space\*?|[hm]skip|m?kern|\\)\s*[{\[]?\s*-?\s*(\d*\.?\d+)\s*([a-z]{2})")
_EM = {
    "em": 1,
    "ex": 0.45,
    "mu": 1 / 18,
    "pt": 0.1,
    "bp": 0.1,
    "px": 0.075,
    "pc": 1.2,
    "mm": 0.285,
    "cm": 2.85,
    "in": 7.2,
}
_LEVELS = re.compile(r"\\(?:begin|end|left|right)(?![a-zA-Z])|\\(?:[a-zA-Z]+|.)|[{}\[\]]|[\^_\s]|.", re.DOTALL)
_OPENS, _CLOSES = {"{", "[", r"\begin", r"\left"}, {"}", "]", r"\end", r"\right"}

# Numbered environments would take the whole width and number formulas that had no number. These look the same.
_UNNUMBERED = {
    "align": "aligned", "alignat": "aligned", "alignedat": "aligned", "flalign": "aligned", "split": "aligned",
    "eqnarray": "aligned", "gather": "gathered", "multline": "gathered", "equation": "gathered",
    "displaymath": "gathered", "math": "gathered", "smallmatrix": "matrix",
}  # fmt: skip
_ENVIRONMENT = re.compile(r"\\(begin|end)\{([a-zA-Z]+)(\*?)\}(\{\d+\})?")
_TAG = re.compile(r"\\tag(\*?)\{([^{}]*)\}")
_SUBSTACK = re.compile(r"\\substack\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_TEXT = re.compile(r"(\\(?:text|mbox|hbox|textnormal|textrm)\s*\{)([^{}]*\$[^{}]*)\}")
_ROWS = re.compile(r"\\(?:begin|end)(?![a-zA-Z])|\\.|[{}&]", re.DOTALL)
_INNER = re.compile(r"\$([^$]+)\$")

# What of the source is no letter or digit to be seen
_UNSEEN = re.compile(
    r"\\(?:begin|end)\{[^}]*\}(?:\{[^}]*\})?|\\(?:hspace|vspace|color|textcolor)\*?\{[^}]*\}|\\\\\[[^\]]*\]"
    r"|\\(?:hskip|mskip|kern|mkern)\s*-?[\d.]+\s*[a-z]{2}|\\genfrac.*|\\[a-zA-Z]+"
)
_MARKUP = re.compile(r"<[^>]*>")
_STYLE = re.compile(r' style="([^"]*)"')
_HEX = re.compile(r"#[0-9A-Fa-f]{6}")
_DARKEST, _LIGHTEST = 0.14, 0.29  # luminance of colours that can be read on light and on dark pages
_OPEN_MATH = re.compile(r"^<math[^>]*>")

# The policy of our pages refuses style attributes, and so do we: what the converter puts there becomes classes.
MATH_CLASSES = {
    "m-left", "m-right", "m-close-left", "m-close-right", "m-apart",
    *(f"m-line-{side}" for side in ("top", "left", "right")), *(f"m-dash-{side}" for side in ("top", "left", "right")),
    "math-core-sans-serif-font", "math-core-serif-font", "menclose-updiagonalstrike", "menclose-downdiagonalstrike",
}  # fmt: skip
_CLASS_OF = {
    "text-align:left": "m-left",
    "text-align:right": "m-right",
    "padding-left:0": "m-close-left",
    "padding-right:0": "m-close-right",
    "padding-left:1em": "m-apart",
    **{
        f"border-{side}:0.05em {line} currentcolor": f"m-{name}-{side}"
        for side in ("top", "left", "right")
        for line, name in (("solid", "line"), ("dashed", "dash"))
    },
}


@lru_cache(maxsize=2_048)
def typeset(source: str, *, is_display: bool) -> str | None:
    """`source`, without its delimiters, as a <math> element that carries it; None where it cannot be typeset."""
    if len(source) > LENGTH_LIMIT or _depth(source) > DEPTH_LIMIT or _REFUSED.search(source) or _reaches_far(source):
        return None
    try:
        mathml = _converter.convert_with_local_state(_adapted(source), displaystyle=is_display)
    except LatexError:
        return None
    if not _is_whole(source, mathml):
        return None
    inner = _OPEN_MATH.sub("", _STYLE.sub(_as_attributes, mathml)).removesuffix("</math>")
    display = ' display="block"' if is_display else ""
    annotation = f'<annotation encoding="application/x-tex">{escape(source.strip(), quote=False)}</annotation>'
    return f"<math{display}><semantics><mrow>{inner}</mrow>{annotation}</semantics></math>"


def _reaches_far(source: str) -> bool:
    return any(float(number) * _EM.get(unit, 1) > _FARTHEST_EM for number, unit in _SPACE.findall(source))


def _depth(source: str) -> int:
    """At most how deep the converter goes: brackets within each other, and commands that may take one another."""
    deepest = level = 0
    outer: list[int] = []  # levels at which the open brackets stand
    for piece in _LEVELS.findall(source):
        if piece in _OPENS:
            outer.append(level)
            level += 1
        elif piece in _CLOSES:
            level = outer.pop() if outer else 0
        elif piece[0] == "\\":
            level += 1
        elif piece not in "^_" and not piece.isspace():
            level = outer[-1] + 1 if outer else 0
        deepest = max(deepest, level)
    return deepest


def _adapted(source: str) -> str:
    """`source` in the converter's own dialect."""
    adapted = _ENVIRONMENT.sub(_unnumbered, source)
    adapted = _TAG.sub(lambda tag: r"\qquad\text{%s}" % (tag[2] if tag[1] else f"({tag[2]})"), adapted)
    adapted = _SUBSTACK.sub(lambda stack: rf"\begin{{subarray}}{{c}}{stack[1]}\end{{subarray}}", adapted)
    adapted = _TEXT.sub(_with_formulas, adapted)
    loose = _loose(adapted)
    if "&" in loose:
        return rf"\begin{{aligned}}{adapted}\end{{aligned}}"
    return rf"\begin{{gathered}}{adapted}\end{{gathered}}" if r"\\" in loose else adapted


def _unnumbered(found: re.Match[str]) -> str:
    """The tag of an environment under the name of its unnumbered form, which takes no number of columns."""
    name = _UNNUMBERED.get(found[2])
    return rf"\{found[1]}{{{name}}}" if name else found[0]


def _with_formulas(text: re.Match[str]) -> str:
    """A piece of text that holds formulas, as pieces of text between formulas."""
    return text[1] + _INNER.sub(lambda formula: f"}}{formula[1]}{text[1]}", text[2]) + "}"


def _loose(source: str) -> set[str]:
    """Breaks of lines and columns outside every environment and bracket: the converter would drop or refuse them."""
    loose = set()
    level = 0
    for token in _ROWS.findall(source):
        if token in ("{", r"\begin"):
            level += 1
        elif token in ("}", r"\end"):
            level -= 1
        elif token in (r"\\", "&") and level == 0:
            loose.add(token)
    return loose


def _is_whole(source: str, mathml: str) -> bool:
    """Whether every letter and digit that the source spells out is in the output."""
    shown = Counter(unicodedata.normalize("NFKC", unescape(_MARKUP.sub("", mathml))))
    written = Counter(unicodedata.normalize("NFKC", _UNSEEN.sub(" ", source)))
    return all(count <= shown[letter] for letter, count in written.items() if letter.isalnum())


def _as_attributes(style: re.Match[str]) -> str:
    declarations = [declaration.replace(": ", ":").strip() for declaration in style[1].split(";")]
    classes = " ".join(_CLASS_OF[each] for each in declarations if each in _CLASS_OF)
    colours = [each.removeprefix("color:") for each in declarations if each.startswith("color:")]
    named = f' class="{classes}"' if classes else ""
    return named + "".join(f' mathcolor="{_readable(colour)}"' for colour in colours)


def _readable(colour: str) -> str:
    """`colour` (#RRGGBB), lighter or darker until it has a contrast of about 3 on light and on dark pages."""
    if not _HEX.fullmatch(colour):
        return "currentcolor"
    rgb = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    while not _DARKEST <= (luminance := _luminance(rgb)) <= _LIGHTEST:
        rgb = [round(each + (255 - each) * 0.1) if luminance < _DARKEST else int(each * 0.95) for each in rgb]
    return "#{:02X}{:02X}{:02X}".format(*rgb)


def _luminance(rgb: list[int]) -> float:
    """Of a colour, from 0 to 1: WCAG 2.2, relative luminance."""
    parts = [each / 255 / 12.92 if each <= 10 else ((each / 255 + 0.055) / 1.055) ** 2.4 for each in rgb]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]
