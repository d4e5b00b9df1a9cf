"""`manage.py account close|reopen|revoke-tokens|make-site-admin|end-site-admin EMAIL`: as the People page does it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.translation import gettext_lazy as _

from annotate.models import User
from annotate.services.people import accounts, tokens

ACTIONS = {
    "close": (accounts.close, _("%s can no longer sign in. All sessions, tokens and links are revoked.")),
    "reopen": (accounts.reopen, _("%s can sign in again. Tokens stay revoked.")),
    "revoke-tokens": (tokens.revoke_all, _("All tokens of %s are revoked.")),
    "make-site-admin": (accounts.make_site_admin, _("%s is now a site admin.")),
    "end-site-admin": (accounts.end_site_admin, _("%s is no longer a site admin.")),
}


class Command(BaseCommand):
    help = "Close or reopen an account, revoke its tokens, or grant or remove the site admin role."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=ACTIONS)
        parser.add_argument("email")

    def handle(self, *, action: str, email: str, **_options: Any) -> None:
        user = User.objects.filter(email=email.lower()).first()
        if user is None:
            raise CommandError(_("There is no account with the address %s.") % email)
        do, done = ACTIONS[action]
        try:
            do(user, actor=None)
        except accounts.LastSiteAdmin:
            raise CommandError(
                _("An installation needs at least one site admin. Make someone else a site admin first.")
            ) from None
        self.stdout.write(done % email)
