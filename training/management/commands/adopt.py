"""`manage.py adopt`: lists the folders of BASE_MODELS_DIR; with a folder, examines it here and now."""

from __future__ import annotations

import platform
import sys
import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.template.defaultfilters import filesizeformat

from annotate.management.numbers import LARGEST, between
from training import adopter
from training.models import Adoption
from training.services.registry import adoption_words, adoptions
from training.services.registry.adoptions import Folder
from training.services.registry.model_folders import Unreadable

POLL_S = 1.0


class Command(BaseCommand):
    help = (
        "Check a folder of BASE_MODELS_DIR so that projects can use it, and print what was found. Exits with 1 if "
        "it cannot be used. Without a folder, list all folders."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("folder", nargs="?", help="the name of a folder of BASE_MODELS_DIR")
        parser.add_argument(
            "--context",
            type=between(1, LARGEST),
            help="context length in tokens, for a model whose config has none",
        )

    def handle(self, *, folder: str | None, context: int | None, **_options: Any) -> None:
        if folder is None:
            found = adoptions.folders()
            self.stdout.write("\n".join(map(_line, found)) or "BASE_MODELS_DIR has no folders.")
            return
        adoption = self._examine(folder, context)
        self.stdout.write("\n".join(_result(adoption)))
        if adoption.status != Adoption.Status.ADOPTED:
            sys.exit(1)

    def _examine(self, folder: str, context: int | None) -> Adoption:
        """Here, or by a worker that has begun already."""
        try:
            adoption = adoptions.create_pending(folder, context=context or adoptions.stated_context(folder))
        except (adoptions.UnknownFolder, Unreadable, adoptions.UnderWay) as refusal:
            raise CommandError(str(refusal)) from None
        while adoption.is_live:
            adopter.examine(adoption.pk, worker=f"manage.py@{platform.node()}")
            adoption.refresh_from_db()
            if adoption.is_live:
                time.sleep(POLL_S)  # a worker examines it, or another folder
        return adoption


def _line(folder: Folder) -> str:
    about = adoption_words.facts(folder.adopted.report) if folder.adopted else adoption_words.why_not(folder)
    return f"{folder.name}: {adoption_words.STATES[folder.state]}. {about}".strip()


def _result(adoption: Adoption) -> list[str]:
    """The result in words."""
    report, state = adoption.report, adoption_words.STATES[adoption.status]
    lines = [f"“{adoption.folder}” {state}." + (f" {adoption.error}" if adoption.error and not report else "")]
    lines += [f"  {adoption_words.facts(report)}"] if report.get("architecture") else []
    lines += [f"  {sentence}" for sentence in adoption_words.template_notes(report)]
    lines += [f"  {found.label}: {found.text}" for found in adoption_words.findings(report)]
    if adoption.status == Adoption.Status.ADOPTED:
        size = filesizeformat(sum(file["bytes"] for file in report["files"])).replace("\xa0", " ")
        lines.append(f"  {len(report['files'])} files of {size} are used.")
    if report.get("ignored"):
        lines.append(f"  Ignored, because nothing reads them: {', '.join(report['ignored'])}.")
    return lines
