"""`manage.py doctor`: what is wrong with this installation, and how to mend it."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from training.services.office import doctor


class Command(BaseCommand):
    help = "Report problems with this installation and how to fix them. Exits with 1 if there are any."
    requires_system_checks = []  # it must run where Django's own checks fail

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", dest="wants_json", action="store_true", help="print a JSON list")

    def handle(self, *, wants_json: bool, **_options: Any) -> None:
        findings = doctor.examine()
        self.stdout.write(as_json(findings) if wants_json else as_text(findings))
        if any(finding.level == doctor.Level.WRONG for finding in findings):
            sys.exit(1)


def as_json(findings: list[doctor.Finding]) -> str:
    return json.dumps([finding._asdict() for finding in findings], ensure_ascii=False)


def as_text(findings: list[doctor.Finding]) -> str:
    if not findings:
        return "No problems found."
    return "\n".join(f"{found.level:<5}  {found.about}: {found.fault}\n       {found.remedy}" for found in findings)
