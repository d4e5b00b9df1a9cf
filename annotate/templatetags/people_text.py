"""How people's text gets onto a page: rendered Markdown that cannot carry markup, and counts of its words."""

from __future__ import annotations

import nh3
from django import template
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import ngettext
from markdown_it import MarkdownIt

from annotate.services import text as texts

register = template.Library()

# Raw HTML is escaped by the parser already; the sanitiser is a second lock, and the only one that is audited for it.
# No images: a picture from elsewhere would tell its server who reads here.
_parser = MarkdownIt("js-default", {"html": False, "breaks": True}).disable("image")
_TAGS = {
    "p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "strong", "em", "s", "code", "pre", "blockquote",
    "ul", "ol", "li", "a", "table", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip
_ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}}
_SCHEMES = {"http", "https", "mailto"}


@register.filter
def markdown(text: str) -> SafeString:
    """`text` as HTML, with nothing in it that runs, loads or leaves the page unasked."""
    html = nh3.clean(
        _parser.render(text),
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        url_schemes=_SCHEMES,
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},  # a look elsewhere leaves the work where it is
    )
    return mark_safe(html)  # noqa: S308  (cleaned in the line above)


@register.filter
def thought(text: str) -> str:
    """What a model thought before it answered; nearly always nothing."""
    return texts.split_thought(text).thought


@register.filter
def answer(text: str) -> str:
    """A model's text without its thought."""
    return texts.split_thought(text).answer


@register.filter
def words(text: str) -> int:
    """How many words `text` has, counted as static/js/write.js counts them."""
    return len(text.split())


@register.filter
def about_each(seconds: int) -> str:
    """How long one piece takes, in the roundest words that are still true."""
    if seconds < 90:
        return ngettext("about %d s each", "about %d s each", seconds) % seconds
    minutes = round(seconds / 60)
    return ngettext("about %d minute each", "about %d minutes each", minutes) % minutes
