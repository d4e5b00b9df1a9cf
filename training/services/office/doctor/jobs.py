"""Checks of what is at work: workers, runs that got stuck, sweeps that nobody makes, base models."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.models import Assignment, Project
from training.models import ModelVersion, Promotion, Run, Worker
from training.services.office.doctor.findings import Check, Finding, Level
from training.services.registry.base_models import why_missing
from training.services.run_files.reader import RunFiles
from training.stages import Stage

QUEUED_TOO_LONG = timedelta(minutes=1)  # with a free worker
SWEEPS_MISSED = 5  # before silence is a finding
NOTHING = {
    "gpu": gettext_lazy("No gpu-worker is running, so nothing can train."),
    "default": gettext_lazy("No worker is running for the queue “default”, so stuck runs and items are not recovered."),
}
Status = Run.Status


def nobody_works() -> Iterator[Finding]:
    for queue, log in {"gpu": "gpu-worker", "default": "worker"}.items():
        if not Worker.objects.alive(queue).exists():
            remedy = _("Start it (“make run” does), or see logs/%(log)s.log for why it ended.") % {"log": log}
            yield Finding("workers", str(NOTHING[queue]), remedy)


def silent_workers() -> Iterator[Finding]:
    silent = Worker.objects.silent()
    for worker in silent.order_by("name"):
        fault = _("The worker %(name)s has sent no heartbeat for %(time)s.")
        facts = {"name": worker.name, "time": timesince(worker.heartbeat_at)}
        remedy = _("It was killed or cannot reach the database. Check process %(pid)d on %(host)s.")
        # Where another one serves the queue, nothing waits for it.
        level = Level.NOTE if Worker.objects.alive(worker.queue).exists() else Level.WRONG
        yield Finding("workers", fault % facts, remedy % {"pid": worker.pid, "host": worker.host}, level)


def runs_without_worker() -> Iterator[Finding]:
    late = Now() - timedelta(seconds=settings.RECONCILE_S * SWEEPS_MISSED)
    for run in Run.objects.running().filter(lease_until__lt=late).order_by("pk"):
        fault = _("%(run)s lost its worker %(time)s ago and has not been picked up again.")
        facts = {"run": _name(run), "time": timesince(run.lease_until)} if run.lease_until else {}
        yield Finding(
            "runs", fault % facts, _("The reconciler is not running. Make sure that beat and worker are running.")
        )


def runs_that_wait() -> Iterator[Finding]:
    recently = Now() - QUEUED_TOO_LONG
    others = Run.objects.exclude(status=Status.RUNNING)
    has_just_ended = others.filter(Q(finished_at__gt=recently) | Q(heartbeat_at__gt=recently)).exists()
    # A worker that has only just got free is about to take one.
    if has_just_ended or not Worker.objects.idle("gpu").exists():
        return
    for run in Run.objects.queued().filter(created_at__lt=recently):
        fault = _("%(run)s has been waiting for %(time)s although a gpu-worker is free.")
        remedy = _("Its message has not arrived. Make sure that the broker, beat and worker are running.")
        if (number := RunFiles(run).processes) > 1:
            remedy = _(
                "It wants %(number)d processes: start a gpu-worker on a machine with that many graphics cards or CPU"
                " cores, or cancel it and lower “processes”."
            ) % {"number": number}
        yield Finding("runs", fault % {"run": _name(run), "time": timesince(run.created_at)}, remedy)


def held_runs() -> Iterator[Finding]:
    for run in Run.objects.held().order_by("pk"):
        fault = _("%(run)s is on hold: %(error)s") % {"run": _name(run), "error": run.error.strip().partition("\n")[0]}
        yield Finding("runs", fault, _("Fix the cause, then continue the run on its page."))


def sweeps() -> Iterator[Finding]:
    overdue = timezone.now() - timedelta(seconds=settings.RECONCILE_S * SWEEPS_MISSED)
    oldest = Assignment.objects.filter(status=Assignment.Status.HELD, lease_until__lt=overdue)
    if first := oldest.order_by("lease_until").first():
        fault = _("An assignment expired %(time)s ago and has not been returned to the queue.")
        remedy = _("The reconciler is not running. Make sure that beat and worker are running.")
        yield Finding("sweeps", fault % {"time": timesince(first.lease_until)}, remedy)


def base_models() -> Iterator[Finding]:
    trained = Project.objects.exclude(training_settings=None).select_related("training_settings")
    for project in trained.exclude(model_versions__kind=ModelVersion.Kind.BASE).order_by("pk"):
        if not project.runs.unfinished().filter(stage=Stage.PRETRAINING).exists():
            fault = _("The project “%(project)s” has no base model. %(why)s") % {
                "project": project.name,
                "why": why_missing(project.training_settings),
            }
            yield Finding("models", fault, _("Choose one in its settings, or look at Base models."))


def weights() -> Iterator[Finding]:
    """The models that the next round builds on: their files are there, as long as the manifest says."""
    for model in _needed_models():
        sizes = {name: file["size"] for name, file in model.manifest.get("files", {}).items()}
        paths = {name: model.directory / name for name in sizes}
        bad = [name for name, path in paths.items() if not path.is_file() or path.stat().st_size != sizes[name]]
        if bad:
            fault = _("%(model)s of “%(project)s” is damaged: %(file)s is missing or has the wrong size.")
            facts = {"model": model.name, "project": model.project.name, "file": bad[0]}
            yield Finding("models", fault % facts, _("Restore %(path)s from a backup.") % {"path": model.directory})


def _needed_models() -> QuerySet[ModelVersion]:
    champions = Promotion.objects.values("model_version")
    present = ModelVersion.objects.with_weights().select_related("project").order_by("pk")
    return present.bases() | present.filter(pk__in=champions)


def _name(run: Run) -> str:
    return _("Run %(number)d (%(stage)s)") % {"number": run.pk, "stage": run.get_stage_display()}


CHECKS: tuple[Check, ...] = (
    nobody_works,
    silent_workers,
    runs_without_worker,
    runs_that_wait,
    held_runs,
    sweeps,
    base_models,
    weights,
)
