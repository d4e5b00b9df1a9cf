"""`manage.py create_demo_project`: the project "Everyday questions", its people, and links by which they come in."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from annotate.models import SignInLink
from annotate.services.people import links
from training.services.office import demo_project


class Command(BaseCommand):
    help = "Create the demo project if it does not exist, and print a one-time sign-in link for each of its members."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--completions", type=int, default=4, help="answers per set to rank, 2 to 9")
        parser.add_argument("--seed", type=int, default=0, help="seed for all random draws in training")

    def handle(self, *, completions: int, seed: int, verbosity: int, **_options: Any) -> None:
        demo_project.create(seed=seed, completions_per_slate=completions)
        if not verbosity:
            return
        for email, name in demo_project.PEOPLE.items():
            made = links.make(email, purpose=SignInLink.Purpose.SIGN_IN)
            self.stdout.write(f"{name}\t{settings.PUBLIC_URL}{links.path_of(made.secret)}")
