"""The bell in the top bar, and the switches of the account page."""

from __future__ import annotations

from django import template
from django.db.models import QuerySet

from annotate.models import Member, User
from annotate.services import notices

register = template.Library()


@register.simple_tag
def unread_notices(user: User) -> str:
    """How many notices wait for `user`, as the bell shows it; empty for none."""
    count = notices.count_unread(user)
    if count > notices.MOST_COUNTED:
        return f"{notices.MOST_COUNTED}+"
    return str(count or "")


@register.simple_tag
def can_mail() -> bool:
    """Whether there is a mail server to send by."""
    return notices.can_mail()


@register.simple_tag
def memberships(user: User) -> QuerySet[Member]:
    """Where `user` takes part, by the projects' names."""
    return user.memberships.active().select_related("project").order_by("project__name")
