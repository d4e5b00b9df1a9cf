"""`manage.py sign_in_link EMAIL`: a one-time way in, for the first admin, and for people who lost their password."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.translation import gettext as _

from annotate.models import SignInLink, User
from annotate.services.people import accounts, links


class Command(BaseCommand):
    help = "Print a one-time link that signs EMAIL in. It expires after a day."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")
        parser.add_argument(
            "--site-admin", action="store_true", help="make EMAIL a site admin, creating the account if necessary"
        )
        parser.add_argument(
            "--reset-password", action="store_true", help="the link also lets the person choose a new password"
        )

    def handle(self, *, email: str, site_admin: bool, reset_password: bool, **_options: Any) -> None:
        user = User.objects.filter(email=email.lower()).first()
        if user is None and not site_admin:
            raise CommandError(
                _("There is no account with the address %s. Use --site-admin to create a site admin.") % email
            )
        if user and not user.is_active:
            raise CommandError(_("The account of %s is closed. Reopen it with “manage.py account reopen”.") % email)
        if site_admin:
            accounts.make_site_admin(user or _create(email), actor=None)
        purpose = SignInLink.Purpose.PASSWORD_RESET if reset_password else SignInLink.Purpose.SIGN_IN
        made = links.make(email, purpose=purpose)
        self.stdout.write(settings.PUBLIC_URL + links.path_of(made.secret))


def _create(email: str) -> User:
    """An account for `email`. Raises CommandError where nobody could ever sign in with it."""
    try:
        User._meta.get_field("email").run_validators(email)
    except ValidationError:
        raise CommandError(
            _("“%s” is not a valid email address. Enter the full address, such as you@example.org.") % email
        ) from None
    return User.objects.create_user(email, welcomed_at=None)
