"""The page of one run: what it was asked, how far it is, its curves, and what to do when it failed."""

from __future__ import annotations

import csv

from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from annotate.addresses import fragment_of
from annotate.models import Role
from annotate.permissions import ProjectRequest, role_required
from training.models import Run, Worker
from training.services.pages import heldout_accuracy, schedule
from training.services.run_files import config_fields, curves, gauge_curves, judges_decision, origin_facts, step_samples
from training.services.run_files.reader import RunFiles
from training.services.running import failures, retries
from training.stages import Stage

LIMIT_SETTINGS = ("kl_limit", "learning_rate", "beta")  # which decide when PPO stops by itself


@role_required(Role.ADMIN)
@require_safe
def detail(request: ProjectRequest, pk: int) -> HttpResponse:
    """The whole page; everything on it is read from rows and files."""
    files = fetch(request, pk)
    context = live_context(request, files) | curves_context(request, files) | {"origin": origin_facts.describe(files)}
    return render(request, "training/runs/detail.html", context)


@role_required(Role.ADMIN)
@require_safe
@fragment_of("training:run", "slug", "pk")
def live(request: ProjectRequest, pk: int) -> HttpResponse:
    """The part that changes with every heartbeat."""
    return render(request, "training/runs/_live.html", live_context(request, fetch(request, pk)))


@role_required(Role.ADMIN)
@require_safe
@fragment_of("training:run", "slug", "pk")
def curves_of(request: ProjectRequest, pk: int) -> HttpResponse:
    """The curves, or 204 where nothing came since the browser last looked."""
    context = curves_context(request, fetch(request, pk))
    if request.GET.get("seen") == context["seen"]:
        return HttpResponse(status=204)
    return render(request, "training/runs/_update.html", context | {"is_update": True})


@role_required(Role.ADMIN)
@require_safe
def metrics_csv(request: ProjectRequest, pk: int) -> HttpResponse:
    """Everything that the run has measured, as CSV."""
    files = fetch(request, pk)
    run, rows = files.run, files.history
    names = sorted({name for row in rows for name in row.metrics})
    answer = HttpResponse(content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="run-{run.pk}-{run.stage}.csv"'
    writer = csv.writer(answer)
    writer.writerow(["step", "total", *names])
    writer.writerows([row.step, row.total, *(row.metrics.get(name, "") for name in names)] for row in rows)
    return answer


@role_required(Role.ADMIN)
@require_safe
def origin(request: ProjectRequest, pk: int) -> HttpResponse:
    """What the run was computed with and from, as its engine recorded it; 404 where it did not."""
    files = fetch(request, pk)
    if files.origin_file is None:
        raise Http404
    answer = HttpResponse(files.origin_file.read_bytes(), content_type="application/json")
    answer["Content-Disposition"] = f'attachment; filename="run-{files.run.pk}-{files.run.stage}-origin.json"'
    return answer


def fetch(request: ProjectRequest, pk: int) -> RunFiles:
    """The files of a run of this project, the run with its newest step; else 404."""
    visible = Run.objects.for_user(request.user).select_related("round", "snapshot", "model_version", "project")
    files = RunFiles(get_object_or_404(visible, project=request.project, pk=pk))
    files.catch_up()
    return files


def live_context(request: ProjectRequest, files: RunFiles) -> dict[str, object]:
    """What the live part shows."""
    run = files.run
    needs_person = run.status in retries.RETRIED
    is_waiting = run.status == Run.Status.QUEUED
    return {
        "project": request.project,
        "run": run,
        "is_over": run.status in Run.FINISHED,
        "job": schedule.forecast(request.user, request.project).job_of(run) if is_waiting else None,
        "is_lost": Run.objects.lost().filter(pk=run.pk).exists(),
        "phase": files.phase,
        "recoveries": files.recoveries,
        "limit_settings": config_fields.links(run.stage, LIMIT_SETTINGS)
        if judges_decision.stopped_at_limit(files)
        else [],
        "judges_decision": judges_decision.in_words(files),
        "log_tail": files.log_tail,
        "gpu_workers": Worker.objects.alive("gpu"),
        "cause": failures.cause_of(run) if needs_person else None,
        "choices": retries.choices(run) if needs_person else None,
    }


def curves_context(request: ProjectRequest, files: RunFiles) -> dict[str, object]:
    """What the curves and the saved config show."""
    run, config, rows = files.run, files.config, files.history
    drawn = curves.build(files)
    gauge = gauge_curves.build(files, drawn)
    if gauge:
        drawn = [curve for curve in drawn if curve.name not in gauge_curves.DRAWN]
    return {
        "project": request.project,
        "run": run,
        "is_over": run.status in Run.FINISHED,
        "gauge": gauge,
        "curves": [curve for curve in drawn if not curve.is_folded],
        "flat_curves": [curve for curve in drawn if curve.is_folded],
        "bar": step_samples.step_cells(files) if run.stage == Stage.PPO else [],
        "limit": config.get("kl_limit"),
        "seen": f"{len(rows)}-{rows[-1].step if rows else 0}-{run.fence}-{run.status}",
        "dataset": curves.dataset_figures(rows),
        "heldout": heldout_accuracy.build(run),
        "fields": list(config_fields.describe(config)),
        "parents": config.get("parents", {}),
    }
