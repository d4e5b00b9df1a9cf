"""The doctor: small checks of the installation, each of which says what is wrong and how to mend it.

A check only looks: it repairs nothing, and it starts nothing that lasts longer than seconds. Left out on purpose:
hashing weights, which an engine does anyway before it uses them.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.utils.translation import gettext as _

from training.services.office.doctor import database, folders, jobs, surroundings
from training.services.office.doctor.findings import Check, Finding, Level

__all__ = ["Finding", "Level", "examine"]

CHECKS: tuple[Check, ...] = (*database.CHECKS, *jobs.CHECKS)  # these need a database that answers
CHECKS_WITHOUT_DATABASE: tuple[Check, ...] = (*folders.CHECKS, *surroundings.CHECKS)


def examine() -> list[Finding]:
    """Everything that the checks find, what is wrong first."""
    findings = _made(CHECKS_WITHOUT_DATABASE)
    unreachable = _made([database.answers])
    findings += unreachable or _made(CHECKS)
    return sorted(findings, key=lambda finding: finding.level != Level.WRONG)


def _made(checks: Iterable[Check]) -> list[Finding]:
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += check()
        except Exception as error:  # the other checks are wanted all the more
            fault = _("The check “%(name)s” itself failed: %(error)s.") % {"name": check.__name__, "error": error}
            findings.append(Finding(check.__name__, fault, _("Fix the other problems first, then check again.")))
    return findings
