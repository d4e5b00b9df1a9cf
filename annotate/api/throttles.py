"""How often a program may call: a limit for each token, and one for all tokens of a person together."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.cache import caches
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle


class _Throttle(SimpleRateThrottle):
    scope: str

    # In this process's memory: counting in the database would cost every call two writes. Several web processes
    # allow that many times the rate, which still ends a program that runs wild.
    cache = caches["throttle"]

    def get_rate(self) -> str:
        return f"{settings.API_CALLS_PER_MINUTE[self.scope]}/minute"


class TokenThrottle(_Throttle):
    scope = "token"

    def get_cache_key(self, request: Request, view: Any) -> str | None:
        return f"token-{request.auth.pk}" if request.auth else None


class PersonThrottle(_Throttle):
    scope = "person"

    def get_cache_key(self, request: Request, view: Any) -> str | None:
        return f"person-{request.user.pk}" if request.auth else None
