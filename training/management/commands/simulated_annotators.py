"""`manage.py simulated_annotators`: people for `manage.py simulate`, whose labels are marked as simulated."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotate.management.numbers import between
from annotate.models import Project
from training.services.demo import people


class Command(BaseCommand):
    help = "Add simulated annotators to a project, and print an API token for each, one per line."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("project", help="the project's slug")
        parser.add_argument("--number", type=between(1, 1000), default=8)

    def handle(self, *, project: str, number: int, **_options: Any) -> None:
        found = Project.objects.filter(slug=project).first()
        if found is None:
            raise CommandError(f"There is no project {project}.")
        self.stdout.write("\n".join(people.invite(found, number=number)))
