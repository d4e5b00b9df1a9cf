"""Projects: the list, making one, what one is about, its settings and its guidelines."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import Count, Q
from django.forms import ModelForm
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe
from django_htmx.http import HttpResponseClientRedirect

from annotate import hooks
from annotate.forms.projects import GuidelinesForm, NewProjectForm, ProjectSettingsForm
from annotate.models import Project, Role
from annotate.permissions import ProjectRequest, SignedInRequest, role_required, site_admin_required
from annotate.services import projects
from annotate.services.project_overview import page as project_overview


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
    training_form = hooks.project_form(request.POST or None, form.instance)
    if request.method == "POST" and _are_valid(form, training_form):
        project = projects.create(form.save(commit=False), creator=request.user, training_form=training_form)
        messages.success(request, _("%(name)s was created. Add prompts, then invite people.") % {"name": project.name})
        return redirect("annotate:project", project.slug)
    context = {"form": form, "training_form": training_form}
    return render(request, "annotate/projects/create.html", context, status=422 if form.is_bound else 200)


@role_required(Role.ADMIN)
@require_safe
def overview(request: ProjectRequest) -> HttpResponse:
    """What an admin has to know and to decide: a project's first page."""
    panel = hooks.panels({request.project: Role.ADMIN}, request.user).get(request.project.pk)
    context = {"overview": project_overview.build(request.project), "panel": panel}
    return render(request, "annotate/projects/overview.html", context)


@role_required(Role.ADMIN)
@require_http_methods(["GET", "POST"])
def settings(request: ProjectRequest) -> HttpResponse:
    form = ProjectSettingsForm(request.POST or None, instance=request.project)
    training_form = hooks.project_form(request.POST or None, request.project)
    if request.method == "POST" and _are_valid(form, training_form):
        projects.change(form.instance, changed=form.changed_data, actor=request.user, training_form=training_form)
        messages.success(request, _("Saved."))
        return redirect("annotate:settings", request.project.slug)
    if form.is_bound:
        request.project.refresh_from_db()  # the page's heading keeps the name that is stored
    context = {
        "form": form,
        "training_form": training_form,
        "heldout_percent": round(request.project.heldout_share * 100),
    }
    return render(request, "annotate/projects/settings.html", context, status=422 if form.is_bound else 200)


@role_required(Role.ANNOTATOR)
@require_safe
def guidelines(request: ProjectRequest) -> HttpResponse:
    """The guidelines, as the people who judge read them."""
    return render(request, "annotate/guidelines/page.html")


@role_required(Role.ADMIN)
@require_http_methods(["GET", "POST"])
def edit_guidelines(request: ProjectRequest) -> HttpResponse:
    stored = request.project.guidelines
    form = GuidelinesForm(request.POST or None, initial={"text": stored, "before": stored})
    conflict, status = None, 422 if form.is_bound else 200
    if form.is_bound and form.is_valid():
        try:
            projects.edit_guidelines(request.project, **form.cleaned_data, actor=request.user)
            messages.success(request, _("Saved. Everyone now sees the new guidelines."))
            address = reverse("annotate:guidelines", args=[request.project.slug])
            return HttpResponseClientRedirect(address) if request.htmx else redirect(address)
        except projects.GuidelinesChanged as error:
            conflict, status = error.current, 409
            form = GuidelinesForm(initial={"text": form.cleaned_data["text"], "before": error.current})
    return render(
        request, "annotate/projects/edit_guidelines.html", {"form": form, "conflict": conflict}, status=status
    )


def _are_valid(form: ModelForm[Any], training_form: ModelForm[Any] | None) -> bool:
    # Both are asked before one may answer, so that each shows its own errors.
    is_valid = form.is_valid()
    return (training_form is None or training_form.is_valid()) and is_valid
