"""Projects: the list, making one, what one is about, its settings and its guidelines."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import Count, Q
from django.forms import ModelForm
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from annotate import hooks
from annotate.forms.projects import GuidelinesForm, NewProjectForm, ProjectSettingsForm
from annotate.models import Demonstration, Project, Ranking
from annotate.permissions import ProjectRequest, SignedInRequest, role_required, site_admin_required
from annotate.services import projects, splits


@login_required
@require_safe
def index(request: SignedInRequest) -> HttpResponse:
    mine = Project.objects.for_user(request.user).order_by("name")
    people = Count("members", filter=Q(members__removed_at=None))
    steered = set(Project.objects.administered_by(request.user).values_list("pk", flat=True))
    return render(
        request, "annotate/projects/index.html", {"projects": mine.annotate(people=people), "steered": steered}
    )


@site_admin_required
@require_http_methods(["GET", "POST"])
def create(request: SignedInRequest) -> HttpResponse:
    form = NewProjectForm(request.POST or None)
    additions = _additions(request, project=None)
    if request.method == "POST" and _all_valid(form, additions):
        project = projects.create(form.save(commit=False), creator=request.user, additions=additions)
        messages.success(request, _("%(name)s is there. Add prompts, then invite people.") % {"name": project.name})
        return redirect("annotate:project", project.slug)
    context = {"form": form, "additions": additions}
    return render(request, "annotate/projects/create.html", context, status=422 if form.is_bound else 200)


@role_required("admin")
@require_safe
def overview(request: ProjectRequest) -> HttpResponse:
    project = request.project
    counts = project.prompts.active().sides()
    context = {
        "prompts": counts,
        "split_warning": splits.warning(project, **counts),
        "demonstration_count": Demonstration.objects.filter(project=project).newest().count(),
        "ranking_count": Ranking.objects.filter(project=project).newest().count(),
        "member_count": project.members.active().count(),
        "escalated_count": project.work_items.filter(status="escalated").count(),
        "readiness": hooks.readiness(project),
    }
    return render(request, "annotate/projects/overview.html", context)


@role_required("admin")
@require_http_methods(["GET", "POST"])
def settings(request: ProjectRequest) -> HttpResponse:
    form = ProjectSettingsForm(request.POST or None, instance=request.project)
    additions = _additions(request, project=request.project)
    if request.method == "POST" and _all_valid(form, additions):
        changed = [name for part in (form, *additions) for name in part.changed_data]
        projects.change(form.instance, actor=request.user, additions=additions, changed=changed)
        messages.success(request, _("Saved."))
        return redirect("annotate:settings", request.project.slug)
    if form.is_bound:
        request.project.refresh_from_db()  # the page's heading keeps the name that is stored
    context = {
        "form": form,
        "additions": additions,
        "heldout_percent": round(request.project.heldout_share * 100),
    }
    return render(request, "annotate/projects/settings.html", context, status=422 if form.is_bound else 200)


@role_required("admin")
@require_http_methods(["GET", "POST"])
def edit_guidelines(request: ProjectRequest) -> HttpResponse:
    stored = request.project.guidelines
    form = GuidelinesForm(request.POST or None, initial={"text": stored, "before": stored})
    conflict, status = None, 422 if form.is_bound else 200
    if form.is_bound and form.is_valid():
        try:
            projects.edit_guidelines(request.project, **form.cleaned_data, actor=request.user)
            messages.success(request, _("Saved. Everybody reads the new guidelines from now on."))
            return redirect("annotate:guidelines", request.project.slug)
        except projects.GuidelinesChanged as error:
            conflict, status = error.current, 409
            form = GuidelinesForm(initial={"text": form.cleaned_data["text"], "before": error.current})
    return render(
        request, "annotate/projects/edit_guidelines.html", {"form": form, "conflict": conflict}, status=status
    )


def _additions(request: SignedInRequest, *, project: Project | None) -> list[ModelForm[Any]]:
    return [form(request.POST or None, project=project) for form in hooks.project_forms]


def _all_valid(form: ModelForm[Any], additions: list[ModelForm[Any]]) -> bool:
    # All are asked before one may answer, so that every form shows its own errors.
    verdicts = [part.is_valid() for part in (form, *additions)]
    return all(verdicts)
