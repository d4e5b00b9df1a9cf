"""Writes down who did what. Called inside the transaction of the action, so that both happen or neither.

Rows are never changed, see annotate.models.audit; a person who asks to be forgotten is taken out of them.
Sign-ins and new passwords are written down as Django and allauth report them.
"""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import get_adapter
from allauth.account.signals import password_changed, password_set
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db.models import Q
from django.http import HttpRequest

from annotate.models import AuditEvent, Project, User
from annotate.models.audit import SUBJECT_LIMIT


def record(
    action: str, *, actor: User | None = None, project: Project | None = None, subject: str = "", **detail: Any
) -> AuditEvent:
    """Add an event; `action` is noun.verb, such as prompt.withdrawn."""
    subject = subject[:SUBJECT_LIMIT]
    return AuditEvent.objects.create(action=action, actor=actor, project=project, subject=subject, detail=detail)


def forget(user: User, *, project: Project, also_outside: bool) -> None:
    """Take `user` out of the events of `project`; with `also_outside`, of those that belong to no project, too."""
    where = Q(project=project) | Q(project=None) if also_outside else Q(project=project)
    events = AuditEvent.objects.filter(where).naming(user)
    events.about(user).update(subject="", is_erased=True)
    events.filter(actor=user).update(actor=None, is_erased=True)


def record_sign_ins() -> None:
    """From now on sign-ins and changed passwords are recorded. Called once, when the app is ready."""
    user_logged_in.connect(_record_sign_in)
    user_logged_out.connect(_record_sign_out)
    user_login_failed.connect(_record_failed_sign_in)
    password_changed.connect(_record_new_password)
    password_set.connect(_record_new_password)


def _record_sign_in(sender: Any, request: HttpRequest | None, user: User, **_: Any) -> None:
    record("person.signed_in", actor=user, subject=user.email, source=_source(request))


def _record_sign_out(sender: Any, request: HttpRequest | None, user: User | None, **_: Any) -> None:
    if user:
        record("person.signed_out", actor=user, subject=user.email)


def _record_failed_sign_in(
    sender: Any, credentials: dict[str, Any], request: HttpRequest | None = None, **_: Any
) -> None:
    typed = str(credentials.get("email") or credentials.get("username") or "")
    # What is no one's address is not kept: people type passwords into the wrong field.
    is_known = User.objects.filter(email__iexact=typed).exists()
    record("person.sign_in_failed", subject=typed.lower() if is_known else "", source=_source(request))


def _record_new_password(sender: Any, request: HttpRequest, user: User, **_: Any) -> None:
    record("password.changed", actor=user, subject=user.email, source=_source(request))


def _source(request: HttpRequest | None) -> str:
    """The address that the request came from, as the sign-in throttle sees it; empty where there is none."""
    return str(get_adapter().get_client_ip(request)) if request and request.META.get("REMOTE_ADDR") else ""
