"""Publishing: what a finished attempt wrote becomes the run's result, all of it or nothing."""

from __future__ import annotations

from pathlib import Path

from django.db import transaction
from django.db.models.functions import Now

from annotate.services.text import repair_text
from training import stages
from training.models import Answer, ModelVersion, Run, note
from training.rlhf import exits
from training.rlhf.data.records import read_completions
from training.rlhf.exits import InvalidInput
from training.rlhf.failpoints import reach
from training.rlhf.run.manifest import OnBytes, verifies
from training.services.labels import slates
from training.services.planning import plans
from training.services.registry import model_versions
from training.services.run_files import directories, judges_decision, metrics, summaries
from training.services.run_files.reader import RunFiles
from training.stages import Makes, ParentRole


class CancelRequested(Exception):
    """Somebody cancelled the run before its result was stored."""


class DamagedOutput(Exception):
    """The engine said that it was done, and what it wrote is not there, or not as it was written."""


def publish(run: Run, *, counted: OnBytes) -> None:
    """Store the output of the attempt that holds `run`, and move the run to succeeded.

    `counted` is called with the bytes that are read meanwhile: a large model takes minutes.
    Raises DamagedOutput, CancelRequested, or LostRace when the attempt holds the run no more; nothing is stored then.
    """
    attempt = directories.attempt(run.directory, run.fence)
    output = attempt / "output"
    if not verifies(output, counted):
        raise DamagedOutput(f"the output of attempt {run.fence} is missing or damaged")
    try:
        model_versions.base_of(output, plans.parents_of(run).values())
    except InvalidInput as error:
        raise DamagedOutput(f"the adapter of attempt {run.fence} cannot be published: {error}") from error
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
        if judged := judges_decision.of(RunFiles(run)):
            note(run, "judged", **judged._asdict())
        _store(run, output)
        reach("publishing-taken", run.stage)
    directories.discard_drafts(run.directory)
    directories.discard_checkpoints(run.directory)


def _store(run: Run, output: Path) -> None:
    parents, makes = plans.parents_of(run), stages.find(run.stage).makes
    if run.answers_question:
        _store_answer(run, output)
    elif makes is Makes.SLATES:
        slates.open_slates(run, output, parents)
    elif makes is Makes.MEASUREMENTS:
        policy = parents[ParentRole.POLICY]
        measured = {name: value for name, value in run.metrics.items() if not name.startswith("data/")}
        ModelVersion.objects.filter(pk=policy.pk).update(metrics=policy.metrics | measured)
    else:
        model_versions.publish(run, output, parents)


def _store_answer(run: Run, output: Path) -> None:
    """Store what a model answered to an admin's question with the question: nobody ranks it or trains on it."""
    rows = read_completions(output / "completions.jsonl")
    texts = [{"text": repair_text(row.text)[0], "finish_reason": row.finish_reason} for row in rows]
    Answer.objects.filter(run=run).update(texts=texts)
