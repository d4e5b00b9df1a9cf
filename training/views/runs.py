"""The page of one run: what it was asked, how far it is, its curves, and what to do when it failed."""

from __future__ import annotations

import csv

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from annotate.addresses import fragment_of
from annotate.models import Role
from annotate.permissions import ProjectRequest, role_required
from training.models import Run, Stage, Worker
from training.services.pages import progress
from training.services.run_files import attempts, config_fields, curves, step_samples
from training.services.running import failures, retries


@role_required(Role.ADMIN)
@require_safe
def detail(request: ProjectRequest, pk: int) -> HttpResponse:
    """The whole page; everything on it is read from rows and files."""
    run = find(request, pk)
    return render(request, "training/runs/detail.html", live_context(request, run) | curves_context(request, run))


@role_required(Role.ADMIN)
@require_safe
@fragment_of("training:run", "slug", "pk")
def live(request: ProjectRequest, pk: int) -> HttpResponse:
    """The part that changes with every heartbeat."""
    return render(request, "training/runs/_live.html", live_context(request, find(request, pk)))


@role_required(Role.ADMIN)
@require_safe
@fragment_of("training:run", "slug", "pk")
def curves_of(request: ProjectRequest, pk: int) -> HttpResponse:
    """The curves, or 204 where nothing came since the browser last looked."""
    context = curves_context(request, find(request, pk))
    if request.GET.get("seen") == context["seen"]:
        return HttpResponse(status=204)
    return render(request, "training/runs/_update.html", context | {"is_update": True})


@role_required(Role.ADMIN)
@require_safe
def table(request: ProjectRequest, pk: int) -> HttpResponse:
    """Everything that the run has measured, as CSV."""
    run = find(request, pk)
    rows = curves.history(run)
    names = sorted({name for row in rows for name in row.metrics})
    answer = HttpResponse(content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="run-{run.pk}-{run.stage}.csv"'
    writer = csv.writer(answer)
    writer.writerow(["step", "total", *names])
    writer.writerows([row.step, row.total, *(row.metrics.get(name, "") for name in names)] for row in rows)
    return answer


def find(request: ProjectRequest, pk: int) -> Run:
    """The run of this project that `request` asks for, else 404."""
    visible = Run.objects.for_user(request.user).select_related("round", "snapshot", "model_version", "project")
    return attempts.catch_up(get_object_or_404(visible, project=request.project, pk=pk))


def live_context(request: ProjectRequest, run: Run) -> dict[str, object]:
    """What the live part shows."""
    needs_person = run.status in retries.RETRIED
    return {
        "project": request.project,
        "run": run,
        "is_over": run.status in Run.FINISHED,
        "is_lost": run.pk in attempts.lost(),
        "phase": attempts.phase(run),
        "setbacks": attempts.setbacks(run),
        "log_tail": attempts.log_tail(run),
        "gpu_workers": Worker.objects.alive("gpu"),
        "cause": failures.cause_of(run) if needs_person else None,
        "choices": retries.choices(run) if needs_person else None,
    }


def curves_context(request: ProjectRequest, run: Run) -> dict[str, object]:
    """What the curves and the saved config show."""
    config, rows, evaluation = attempts.config(run), curves.history(run), progress.measured_by(run)
    return {
        "project": request.project,
        "run": run,
        "is_over": run.status in Run.FINISHED,
        "curves": curves.build(run, rows, config),
        "bar": step_samples.step_cells(run, rows, config) if run.stage == Stage.PPO else [],
        "limit": config.get("kl_limit"),
        "seen": f"{len(rows)}-{rows[-1].step if rows else 0}-{run.fence}-{run.status}",
        "intake": curves.dataset_figures(rows),
        "evaluation": evaluation,
        "heldout": progress.heldout_accuracy(evaluation) if evaluation else None,
        "fields": list(config_fields.describe(config)),
        "parents": config.get("parents", {}),
    }
