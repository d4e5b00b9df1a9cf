"""`manage.py prune`: shows what nothing needs any more and how much space it takes; with --yes, removes it."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand
from django.template.defaultfilters import filesizeformat

from annotate.management.numbers import between
from training.services.registry import pruning
from training.services.registry.pruning import Kept, Prunable

DAYS = 14


class Command(BaseCommand):
    help = "Show checkpoints and weights that are no longer needed, or delete them with --yes. Keeps rows and logs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--days",
            type=between(0, 3650),
            default=DAYS,
            help=f"days to keep failed and cancelled runs (default: {DAYS})",
        )
        parser.add_argument(
            "--unknown", action="store_true", help="include directories that this database does not know"
        )
        parser.add_argument("--yes", action="store_true", help="delete what is shown")

    def handle(self, *, days: int, unknown: bool, yes: bool, **_options: Any) -> None:
        found, kept = pruning.find(older_than=timedelta(days=days)), pruning.kept_for_adapters()
        if in_no_row := pruning.find_unknown():
            if unknown:
                found.append(in_no_row)
            else:
                why = f"{_size(in_no_row.size)}, which another database may need; add --unknown to include them"
                kept.append(Kept(in_no_row.what, why))
        for prunable in found:
            self.stdout.write(_line(prunable))
        for each in kept:
            self.stdout.write(f"{'kept':>10}  {each.what}: {each.why}")
        if not found:
            self.stdout.write("Nothing to delete.")
        elif yes:
            freed = sum(prunable.size for prunable in found if pruning.free(prunable))
            self.stdout.write(f"{_size(freed)} freed.")
        else:
            total = _size(sum(prunable.size for prunable in found))
            self.stdout.write(f"{total} can be freed. Nothing was deleted; add --yes to delete.")


def _line(prunable: Prunable) -> str:
    return f"{_size(prunable.size):>10}  {prunable.what}: {prunable.why}"


def _size(number: int) -> str:
    return filesizeformat(number).replace("\xa0", " ")
