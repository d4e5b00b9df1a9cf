"""The bar at the top of every page."""

from __future__ import annotations

from django import template
from django.template.context import Context

from annotate import navigation

register = template.Library()


@register.simple_tag(takes_context=True)
def top_bar(context: Context) -> navigation.Bar | None:
    """The bar of this page; None where no one is signed in, and on the pages for server errors."""
    request = context.get("request")
    user = getattr(request, "user", None)
    return navigation.build(request) if request and user and user.is_authenticated else None
