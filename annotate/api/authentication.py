"""Who calls: a bearer token stands for the person who made it. Sessions are for pages and open nothing here."""

from __future__ import annotations

from django.utils.translation import gettext as _
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from annotate.models import ApiToken, User
from annotate.services.people import tokens


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer rt_…`"""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        """The token and its user; None without a header. Raises AuthenticationFailed for anything else."""
        header = get_authorization_header(request).split()
        if not header:
            return None
        token = tokens.authenticate(header[1].decode("latin-1")) if _is_bearer(header) else None
        if token is None:
            raise AuthenticationFailed(_("The token is unknown, expired or revoked."))
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class TokenScheme(OpenApiAuthenticationExtension):
    """How the OpenAPI document describes the header."""

    target_class = TokenAuthentication
    name = "token"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}


def _is_bearer(header: list[bytes]) -> bool:
    return len(header) == 2 and header[0].lower() == b"bearer"
