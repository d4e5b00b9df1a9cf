"""States of a stage as the pages tell them, besides the statuses of its run."""

from __future__ import annotations

from collections.abc import Collection

from django.utils.translation import gettext as _

from training.models import Run
from training.stages.planning import StagePlan

LATER = "waiting"  # the stages before it are not through yet
LEFT_OUT = "left_out"
LOST = "lost"  # it is running, says its row, but its worker is silent


def with_run(run: Run, lost: Collection[int]) -> str:
    """The state of a stage that has a run; `lost`: the ids of those whose worker is silent."""
    return LOST if run.pk in lost else run.status


def without_run(stage: StagePlan, *, is_over: bool) -> tuple[str, str]:
    """The state of a stage that has no run, and why it will have none; `is_over`: the round is."""
    if not stage.will_run:
        return LEFT_OUT, stage.reason
    return (LEFT_OUT, _("The round ended before this stage.")) if is_over else (LATER, "")
