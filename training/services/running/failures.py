"""Why a run failed, or what the engine refuses, looked up by kind in failure_rules. No sentence of ours is parsed.

The kind comes from ending.json (training/rlhf/endings.py), or from the supervisor where the engine could say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from training.models import Run
from training.rlhf import exits
from training.services.planning import record_links
from training.services.planning.failure_rules import RULES, UNKNOWN, Rule
from training.services.planning.record_links import Concerned
from training.services.planning.remedies import Remedy
from training.services.run_files.config_fields import FIELDS
from training.services.run_files.metric_catalog import Words
from training.services.running import question_answers
from training.services.running.runs import SILENCE

INVALID, DIVERGED = exits.InvalidInput.code, exits.Diverged.code
# Of runs that ended before endings were kept; how they ended is told by nothing but their exit code.
BY_CODE = {
    INVALID: "input",
    DIVERGED: "diverged",
    exits.NeedsPerson.code: "disk",
    -9: "killed",
    -15: "stopped",
    -2: "stopped",
    SILENCE: "silent",
}


class Cause(NamedTuple):
    """What a failure card says."""

    name: str
    sentence: Words
    advice: Words
    remedy: Remedy | None
    detail: str  # what the engine said last, or what its worker saw; empty where there was nothing
    field: str  # of the config that is refused, as people call it; empty where it is none
    records: list[Concerned]  # that are refused, or some of them
    gave_up: bool  # several attempts in a row came no further

    @property
    def headline(self) -> str:
        """The cause in a few words; what nobody foresaw is told as it was seen."""
        return self.detail if self.detail and self.name == UNKNOWN else str(self.sentence)

    def __str__(self) -> str:
        is_told = self.detail in ("", self.headline)
        return self.headline if is_told else f"{self.headline} ({self.detail})"


def rule_of(kind: str) -> Rule:
    """The line of the table; the last one for a kind that an engine of another version told."""
    return RULES.get(kind, RULES[UNKNOWN])


def cause_of(run: Run) -> Cause:
    """Why `run` failed or is held."""
    told: Mapping[str, Any] = run.ending
    name = told.get("kind", "")
    if name not in RULES:  # an old run's, or an engine's of another version
        name = BY_CODE.get(run.exit_code or 0, UNKNOWN)
    rule, field = rule_of(name), str(told.get("field", ""))
    return Cause(
        name=name,
        sentence=rule.sentence,
        advice=rule.advice,
        remedy=rule.remedy,
        detail=told.get("sentence") or run.error.partition("\n\n")[0],
        field=str(FIELDS[field].label) if field in FIELDS else field,
        records=_records(run, told),
        gave_up=run.status == Run.Status.FAILED and run.exit_code not in (INVALID, DIVERGED),
    )


def _records(run: Run, told: Mapping[str, Any]) -> list[Concerned]:
    """What a question asks has no page among the prompts."""
    ids = told.get("records", [])
    if not ids or question_answers.belongs_to_question(run):
        return []
    what = told.get("numbers", {}).get("what", "")
    return record_links.prompts(run.project, ids, what=what)
