"""`manage.py api_token EMAIL`: an API token for a program that acts as this person."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotate.management.numbers import between
from annotate.models import ApiToken, User
from annotate.services.people import tokens


class Command(BaseCommand):
    help = "Create an API token and print it. It is shown only once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email")
        parser.add_argument("--scopes", nargs="+", choices=ApiToken.Scope.values, default=[ApiToken.Scope.READ])
        parser.add_argument("--days", type=between(1, 3650), default=30)

    def handle(self, *, email: str, scopes: list[str], days: int, **_options: Any) -> None:
        user = User.objects.filter(email=email.lower(), is_active=True).first()
        if user is None:
            raise CommandError(f"There is no active account with the address {email}.")
        self.stdout.write(tokens.make(user, name="command line", scopes=scopes, days=days).secret)
