"""`manage.py export PROJECT KIND`: labels, prompts or completions as a file, the same as on the export page."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from annotate.forms.exports import ExportForm
from annotate.management.numbers import LARGEST, between
from annotate.models import Project
from annotate.services.exporting import exports
from annotate.services.exporting.exports import KINDS
from annotate.services.exporting.formats import FORMATS
from annotate.services.exporting.selection import Labels


class Command(BaseCommand):
    help = "Export labels, prompts or completions of PROJECT (a slug) to FILE or stdout."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("project")
        parser.add_argument("kind", choices=KINDS)
        parser.add_argument("--format", choices=FORMATS, default="jsonl")
        parser.add_argument("--labels", choices=Labels.values, help="current (default), trainable or all versions")
        rounds = between(1, LARGEST)
        parser.add_argument(
            "--snapshot", type=rounds, metavar="ROUND", help="exactly the labels of this round's snapshot"
        )
        parser.add_argument("--output", type=Path, metavar="FILE", help="replaces an existing file once complete")

    def handle(self, *, project: str, kind: str, output: Path | None, **options: Any) -> None:
        found = Project.objects.filter(slug=project).first()
        if found is None:
            known = ", ".join(Project.objects.not_removed().order_by("slug").values_list("slug", flat=True)) or "none"
            raise CommandError(f"There is no project “{project}”. Projects: {known}.")
        form = ExportForm({name: options[name] for name in ("format", "labels", "snapshot")}, project=found)
        if not form.is_valid():
            raise CommandError(" ".join(str(fault) for faults in form.errors.values() for fault in faults))
        try:
            pieces = exports.start(form.export(kind), actor=None)
        except exports.Gone as gone:
            raise CommandError(str(gone)) from None
        if output:
            self._write(pieces, output)
        else:
            for piece in pieces:
                self.stdout.write(piece.decode(), ending="")

    def _write(self, pieces: Iterator[bytes], output: Path) -> None:
        """Under a temporary name first, so that a partial file is never taken for a complete one."""
        draft = output.with_name(f".{output.name}.{os.getpid()}.part")
        try:
            with draft.open("wb") as file:
                file.writelines(pieces)
            draft.replace(output)
        except OSError as error:
            raise CommandError(f"{output} could not be written: {error.strerror}.") from error
        finally:
            draft.unlink(missing_ok=True)
        self.stderr.write(f"Wrote {output.stat().st_size:,} bytes to {output}.")
