"""Who came in, who tried, and whose password changed, written into the audit as Django and allauth tell it."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import get_adapter
from allauth.account.signals import password_changed, password_set
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.http import HttpRequest

from annotate.models import User
from annotate.services import audit


def listen() -> None:
    """Called once, when the app is ready."""
    user_logged_in.connect(_came_in)
    user_logged_out.connect(_went_out)
    user_login_failed.connect(_was_refused)
    password_changed.connect(_changed_password)
    password_set.connect(_changed_password)


def _came_in(sender: Any, request: HttpRequest | None, user: User, **_: Any) -> None:
    audit.record("person.signed_in", actor=user, subject=user.email, source=_source(request))


def _went_out(sender: Any, request: HttpRequest | None, user: User | None, **_: Any) -> None:
    if user:
        audit.record("person.signed_out", actor=user, subject=user.email)


def _was_refused(sender: Any, credentials: dict[str, Any], request: HttpRequest | None = None, **_: Any) -> None:
    typed = str(credentials.get("email") or credentials.get("username") or "")
    # What is nobody's address is not kept: people type passwords into the wrong field.
    known = User.objects.filter(email__iexact=typed).exists()
    audit.record("person.sign_in_failed", subject=typed.lower() if known else "", source=_source(request))


def _changed_password(sender: Any, request: HttpRequest, user: User, **_: Any) -> None:
    audit.record("password.changed", actor=user, subject=user.email, source=_source(request))


def _source(request: HttpRequest | None) -> str:
    """The address that the request came from, as the sign-in throttle sees it; empty where there is none."""
    return str(get_adapter().get_client_ip(request)) if request and request.META.get("REMOTE_ADDR") else ""
