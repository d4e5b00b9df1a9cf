"""How people's text gets onto a page (services/rendering renders it), and counts of its words."""

from __future__ import annotations

import unicodedata
from typing import Any

from django import template
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotate.services import text as texts
from annotate.services.rendering import markup

register = template.Library()

LINE_LENGTH = 600  # characters of a text in a list
LONG_WORD = 30  # characters on average: then words say nothing about how long a text is


@register.filter
def markdown(text: str) -> SafeString:
    """`text` as HTML, with nothing in it that runs, loads or leaves the page unasked."""
    return mark_safe(markup.render(text))  # noqa: S308  (sanitised there)


@register.filter
def markdown_line(text: str, length: int = LINE_LENGTH) -> SafeString:
    """The beginning of `text` for a list, as HTML without links and boxes."""
    return mark_safe(markup.render_line(text, length))  # noqa: S308  (sanitised there)


@register.filter
def detail(value: Any) -> Any:
    """A detail of the audit log, without the signs that a list or a table has in code."""
    if isinstance(value, dict):
        return "; ".join(f"{key}: {detail(each)}" for key, each in value.items())
    return ", ".join(str(detail(each)) for each in value) if isinstance(value, list) else value


@register.filter
def is_blank(text: str) -> bool:
    """Whether nothing in `text` can be seen."""
    return all(each.isspace() or unicodedata.category(each) in ("Cc", "Cf") for each in text)


@register.filter
def thought(text: str) -> str:
    """What a model thought before it answered; nearly always nothing."""
    return texts.split_thought(text).thought


@register.filter
def answer(text: str) -> str:
    """A model's text without its thought."""
    return texts.split_thought(text).answer


@register.filter
def first_line(text: str) -> str:
    """The first line of `text` that says something; empty where none does."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


@register.filter
def words(text: str) -> int:
    """How many words `text` has, counted as static/js/write.js counts them."""
    return len(text.split())


@register.filter
def show_all(text: str) -> str:
    """What a button says that opens all of `text`: its words, or its characters where its words are no measure."""
    count = words(text)
    if len(text) > LONG_WORD * count:
        return ngettext("Show all of %d character", "Show all %d characters", len(text)) % len(text)
    return ngettext("Show all of %d word", "Show all %d words", count) % count


@register.filter
def about_each(seconds: int) -> str:
    """How long one piece takes, in the roundest words that are still true."""
    if seconds < 90:
        return ngettext("about %d s each", "about %d s each", seconds) % seconds
    minutes = round(seconds / 60)
    return ngettext("about %d minute each", "about %d minutes each", minutes) % minutes


@register.filter
def span_of_seconds(seconds: int) -> str:
    """A short span of time: seconds, from two minutes on minutes."""
    return _("%d s") % seconds if seconds < 120 else _("%d min") % round(seconds / 60)


@register.filter
def percent_of(share: float) -> str:
    """A share from 0 to 1 in whole percent."""
    return f"{share:.0%}"
