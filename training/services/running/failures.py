"""Why a run failed, looked up by kind in failure_rules. No sentence of ours is parsed.

The kind comes from ending.json (training/rlhf/endings.py), or from the supervisor where the engine could say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from training.models import Run
from training.rlhf import exits
from training.services.planning import record_links
from training.services.planning.failure_rules import UNKNOWN, find_rule, rule_of
from training.services.planning.record_links import RecordLink
from training.services.run_files import config_fields
from training.services.run_files.config_fields import SettingLink
from training.services.running.runs import END_UNSEEN
from training.stages.metric import Words
from training.stages.remedies import Remedy

INVALID, DIVERGED = exits.InvalidInput.code, exits.Diverged.code
# For runs that ended before endings were kept: nothing but the exit code says how.
BY_CODE = {
    INVALID: "input",
    DIVERGED: "diverged",
    exits.NeedsPerson.code: "disk",
    -9: "killed",
    -15: "stopped",
    -2: "stopped",
    END_UNSEEN: "silent",
}


class Cause(NamedTuple):
    """What a failure card says."""

    name: str
    sentence: Words
    advice: Words
    remedy: Remedy | None
    detail: str  # what the engine said last, or what its worker saw; empty where there was nothing
    field: str  # of the config that is refused, as people call it; empty where it is none
    settings: list[SettingLink]  # of its stage, by which later runs are spared this
    records: list[RecordLink]  # that are refused, or some of them
    gave_up: bool  # several attempts in a row came no further

    @property
    def headline(self) -> str:
        """The cause in a few words; of what no rule knows, what was seen."""
        return self.detail if self.detail and self.name == UNKNOWN else str(self.sentence)

    def __str__(self) -> str:
        adds_nothing = self.detail in ("", self.headline)
        return self.headline if adds_nothing else f"{self.headline} ({self.detail})"


def cause_of(run: Run) -> Cause:
    """Why `run` failed or is held."""
    ending: Mapping[str, Any] = run.ending
    name = ending.get("kind", "")
    if find_rule(name) is None:  # an old run's, or an engine's of another version
        name = BY_CODE.get(run.exit_code or 0, UNKNOWN)
    rule, field = rule_of(name), str(ending.get("field", ""))
    return Cause(
        name=name,
        sentence=rule.sentence,
        advice=rule.advice,
        remedy=rule.remedy,
        detail=ending.get("sentence") or run.error.partition("\n\n")[0],
        field=str(config_fields.words_of(run.stage, field).label) if field in config_fields.FIELDS else field,
        settings=config_fields.links(run.stage, dict.fromkeys([field, *rule.settings])),
        records=_records(run, ending),
        gave_up=run.status == Run.Status.FAILED and run.exit_code not in (INVALID, DIVERGED),
    )


def _records(run: Run, ending: Mapping[str, Any]) -> list[RecordLink]:
    """The records that are refused; what an admin asked in a question is no prompt, and has no page."""
    ids = ending.get("records", [])
    if not ids or run.answers_question:
        return []
    what = ending.get("numbers", {}).get("what", "")
    return record_links.prompts(run.project, ids, what=what)
