"""`manage.py create_demo_project`: the project "Everyday questions", its people, and links by which they come in."""

from __future__ import annotations

from argparse import ArgumentParser
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from annotate.management import numbers
from annotate.models import SignInLink
from annotate.services.people import links
from training.services.demo import example
from training.services.demo import project as demo_project
from training.tiny import preset


class Command(BaseCommand):
    help = "Create the demo project if it does not exist, and print a one-time sign-in link for each of its members."

    def add_arguments(self, parser: ArgumentParser) -> None:
        ranked, sets = numbers.between(2, 9), numbers.between(1, numbers.LARGEST)
        parser.add_argument("--completions", type=ranked, default=preset.DEMO_K, help="answers per set to rank, 2 to 9")
        parser.add_argument("--slates", type=sets, default=preset.DEMO_SLATES, help="sets of answers per round")
        parser.add_argument("--without-answers", action="store_true", help="do not add answers by simulated people")
        parser.add_argument("--without-example", action="store_true", help="do not add finished rounds")
        parser.add_argument("--seed", type=numbers.seed, default=0, help="seed for all random draws in training")

    def handle(self, *, completions: int, slates: int, seed: int, verbosity: int, **options: Any) -> None:
        if not options["without_example"]:
            try:
                with suppress(example.NotLoaded):  # there are projects already
                    example.load()
            except OSError as error:
                self.stderr.write(f"The example project could not be loaded: {error}")
        demo_project.create(
            seed=seed,
            completions_per_slate=completions,
            slates_per_round=slates,
            has_answers=not options["without_answers"],
        )
        if not verbosity:
            return
        for email, name in demo_project.PEOPLE.items():
            made = links.make(email, purpose=SignInLink.Purpose.SIGN_IN)
            self.stdout.write(f"{name}\t{settings.PUBLIC_URL}{links.path_of(made.secret)}")
