"""API tokens: secrets for programs, shown once. What a scope allows is decided by the API (annotate.api)."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from datetime import timedelta
from typing import NamedTuple

from django.db import transaction
from django.utils import timezone

from annotate.models import ApiToken, User
from annotate.services import audit

PREFIX = "rt_"
# last_used_at is there to find forgotten tokens; a write per request would be a high price for seconds.
USE_NOTED_EVERY = timedelta(minutes=5)


class MadeToken(NamedTuple):
    token: ApiToken
    secret: str  # kept nowhere: only its hash is stored


@transaction.atomic
def make(user: User, *, name: str, scopes: Iterable[str], days: int) -> MadeToken:
    """A token with which a program acts as `user` within `scopes`, for `days` days."""
    secret = PREFIX + secrets.token_urlsafe(32)
    token = ApiToken.objects.create(
        user=user,
        name=name,
        prefix=secret[:12],
        token_hash=_hash(secret),
        scopes=sorted(scopes),
        expires_at=timezone.now() + timedelta(days=days),
    )
    audit.record("token.made", actor=user, subject=str(token), scopes=token.scopes)
    return MadeToken(token, secret)


def authenticate(secret: str) -> ApiToken | None:
    """The token that `secret` stands for, with its user; None if it is unknown, revoked or expired."""
    token = ApiToken.objects.usable().select_related("user").filter(token_hash=_hash(secret)).first()
    now = timezone.now()
    if token and (token.last_used_at is None or now - token.last_used_at > USE_NOTED_EVERY):
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
    return token


@transaction.atomic
def revoke(token: ApiToken, *, actor: User | None) -> None:
    """The token opens nothing any more. `actor` is its owner or a site admin; None at the command line."""
    if ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now()):
        audit.record("token.revoked", actor=actor, subject=str(token), owner=token.user_id)


@transaction.atomic
def revoke_all(user: User, *, actor: User | None) -> int:
    """None of the tokens of `user` opens anything any more. Returns how many did until now."""
    usable = list(ApiToken.objects.usable().filter(user=user))
    for token in usable:
        revoke(token, actor=actor)
    return len(usable)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
