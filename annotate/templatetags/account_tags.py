"""What pages offer a person about the own account."""

from __future__ import annotations

from typing import Any

from django import template
from django.template import RequestContext

from annotate.services.people import accounts

register = template.Library()


@register.inclusion_tag("annotate/accounts/_password_offer.html", takes_context=True)
def password_offer(context: RequestContext) -> dict[str, Any]:
    """A card that offers a password, once it is time for that."""
    return {"is_offered": accounts.offers_password(context["user"]), "csrf_token": context.get("csrf_token")}
