"""Publishing: what a finished attempt wrote becomes the run's result, all of it or nothing."""

from __future__ import annotations

from pathlib import Path

from django.db import transaction
from django.db.models.functions import Now

from training import stages
from training.models import ModelVersion, Run
from training.rlhf import exits
from training.rlhf.failpoints import reach
from training.rlhf.run.manifest import OnBytes, verifies
from training.services.labels import slates
from training.services.planning import plans
from training.services.registry import model_versions
from training.services.run_files import directories, metrics, summaries
from training.services.running import question_answers
from training.stages import Makes


class CancelRequested(Exception):
    """Somebody cancelled the run before its result was taken."""


class DamagedOutput(Exception):
    """The engine said that it was done, and what it wrote is not there, or not as it was written."""


def publish(run: Run, *, counted: OnBytes) -> None:
    """Take the output of the attempt that holds `run`, and end the run well.

    `counted` is told of the bytes that are read meanwhile: a large model takes minutes.
    Raises DamagedOutput, CancelRequested, or LostRace when the attempt holds the run no more; nothing is taken then.
    """
    attempt = directories.attempt(run.directory, run.fence)
    output = attempt / "output"
    if not verifies(output, counted):
        raise DamagedOutput(f"the output of attempt {run.fence} is missing or damaged")
    with transaction.atomic():
        # The move comes first: it locks the row, so that nobody cancels or reclaims while the rest is written.
        run.move_to(
            Run.Status.SUCCEEDED,
            under=run.fence,
            exit_code=exits.DONE,
            metrics=summaries.summarise(metrics.read(attempt).rows),
            step=run.step,
            total=run.total,
            lease_until=None,
            finished_at=Now(),
        )
        if run.cancel_requested:
            raise CancelRequested
        _take(run, output)
        reach("publishing-taken", run.stage)
    directories.discard_drafts(run.directory)
    directories.discard_checkpoints(run.directory)


def _take(run: Run, output: Path) -> None:
    if question_answers.belongs_to_question(run):
        question_answers.take(run, output)
        return
    makes = stages.find(run.stage).makes
    if makes is Makes.SLATES:
        slates.open_from(run, output)
    elif makes is Makes.MEASUREMENTS:
        policy = plans.parents_of(run)["policy"]
        measured = {name: value for name, value in run.metrics.items() if not name.startswith("data/")}
        ModelVersion.objects.filter(pk=policy.pk).update(metrics=policy.metrics | measured)
    else:
        model_versions.publish(run, output)
