"""Code as spans with classes. Few languages and few classes: a grammar that takes long must not hold a page."""

from __future__ import annotations

from html import escape

from pygments.lexers import get_lexer_by_name
from pygments.token import Comment, Error, Generic, Keyword, Name, Number, Operator, String, _TokenType
from pygments.util import ClassNotFound

LENGTH_LIMIT = 20_000  # characters; longer code is shown plain

LANGUAGES = {
    "bash", "c", "c++", "cpp", "cs", "csharp", "css", "diff", "docker", "dockerfile", "go", "golang", "haskell",
    "html", "ini", "java", "javascript", "js", "json", "jsx", "julia", "kotlin", "latex", "lua", "make", "makefile",
    "matlab", "perl", "php", "powershell", "py", "py3", "python", "python3", "pycon", "r", "rb", "ruby", "rs",
    "rust", "scala", "sh", "shell", "sql", "swift", "tex", "toml", "ts", "tsx", "typescript", "xml", "yaml", "yml",
    "zsh",
}  # fmt: skip
# The first that holds counts.
_CLASS_OF: list[tuple[_TokenType, str]] = [
    (Comment, "c-comment"),
    (Generic.Deleted, "c-deleted"),
    (Generic.Inserted, "c-inserted"),
    (Keyword, "c-keyword"),
    (Operator.Word, "c-keyword"),
    (Name.Tag, "c-keyword"),
    (Name.Builtin, "c-name"),
    (Name.Function, "c-name"),
    (Name.Class, "c-name"),
    (Name.Decorator, "c-name"),
    (Name.Attribute, "c-name"),
    (String, "c-string"),
    (Number, "c-number"),
]
CODE_CLASSES = {name for _, name in _CLASS_OF}


def highlight(code: str, language: str) -> str:
    """`code` as escaped HTML, with spans where `language` is known."""
    if language.lower() not in LANGUAGES or len(code) > LENGTH_LIMIT:
        return escape(code, quote=False)
    try:
        lexer = get_lexer_by_name(language.lower(), stripnl=False, ensurenl=False)
    except ClassNotFound:
        return escape(code, quote=False)
    pieces = list(lexer.get_tokens(code))
    if "".join(value for _, value in pieces) != code:  # a grammar must not change what it reads
        return escape(code, quote=False)
    return "".join(_span(kind, value) for kind, value in pieces)


def _span(kind: _TokenType, value: str) -> str:
    name = next((name for parent, name in _CLASS_OF if kind in parent), None) if kind is not Error else None
    text = escape(value, quote=False)
    return f'<span class="{name}">{text}</span>' if name else text
