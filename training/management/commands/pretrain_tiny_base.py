"""`manage.py pretrain_tiny_base`: trains the built-in tiny base model again, which training/tiny/base_model holds."""

from __future__ import annotations

import subprocess
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from training.tiny import recipe


class Command(BaseCommand):
    help = "Train the built-in tiny base model from its own corpus: three minutes on one core. For developers."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--output", type=Path, default=recipe.BASE, help="directory to write it to")

    def handle(self, *, output: Path, **_options: Any) -> None:
        with tempfile.TemporaryDirectory(prefix="roundtable-pretraining-") as scratch:
            try:
                recipe.pretrain(Path(scratch), output)
            except subprocess.CalledProcessError as failure:
                raise CommandError(f"The engine ended with {failure.returncode}; its message is above.") from None
        self.stdout.write(f"Wrote {output}.")
