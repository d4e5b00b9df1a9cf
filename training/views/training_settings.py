"""The settings of every stage of a project, and the preset below them."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods

from annotate.addresses import posts_from
from annotate.models import Role
from annotate.permissions import ProjectRequest, role_required
from training.forms.training_settings import PresetForm, SettingsForm
from training.presets import PRESETS
from training.services.pages import settings_page
from training.services.pages.settings_page import SettingsPage
from training.services.registry import settings_changes
from training.stages.number_format import typed


@role_required(Role.ADMIN)
@require_http_methods(["GET", "HEAD", "POST"])
def show(request: ProjectRequest) -> HttpResponse:
    """Every setting with its preset, and changing them."""
    page = settings_page.build(request.project)
    if page is None:
        return render(request, "training/settings/show.html", {"project": request.project})
    if request.method != "POST":
        return _render(request, page, SettingsForm(stages=page.stages))
    form = SettingsForm(request.POST, stages=page.stages)
    if not form.is_valid():
        return _render(request, page, form, status=422)
    try:
        changed = settings_changes.change(request.project, values=form.changes, seen=form.seen, actor=request.user)
    except settings_changes.Refused as refused:
        form.add_refusals(refused.errors)
        return _render(request, page, form, status=422)
    except settings_changes.Changed as conflict:
        return _show_conflict(request, form, conflict)
    messages.success(request, _saved(len(changed)))
    return redirect("training:settings", request.project.slug)


@role_required(Role.ADMIN)
@posts_from("training:settings", "slug")
def choose_preset(request: ProjectRequest) -> HttpResponse:
    """Take another preset below the project's own values."""
    form = PresetForm(request.POST)
    if settings_page.build(request.project) is None or not form.is_valid():
        messages.error(request, _("Choose a preset."))
        return redirect("training:settings", request.project.slug)
    name = form.cleaned_data["preset"]
    try:
        settings_changes.choose_preset(request.project, name=name, seen=form.cleaned_data["seen"], actor=request.user)
        messages.success(request, _("The preset is now “%(preset)s”.") % {"preset": PRESETS[name].label})
    except settings_changes.Refused as refused:
        sentence = _("“%(preset)s” cannot be used here. %(why)s")
        messages.error(request, sentence % {"preset": PRESETS[name].label, "why": refused.words})
    except settings_changes.PresetChanged:
        messages.error(request, _("Someone else has chosen another preset in the meantime. Check it, then try again."))
    return redirect("training:settings", request.project.slug)


def _show_conflict(request: ProjectRequest, form: SettingsForm, conflict: settings_changes.Changed) -> HttpResponse:
    """What was typed, with what is stored by now beside it."""
    page = settings_page.build(request.project)
    assert page is not None  # settings are never deleted
    form = form.over(page.stages)
    sentence = _("Someone else has set this to %(value)s in the meantime. Save again to overwrite it.")
    form.add_refusals(
        {
            stage: {name: [sentence % {"value": typed(value)}] for name, value in fields.items()}
            for stage, fields in conflict.now.items()
        }
    )
    return _render(request, page, form, status=409)


def _saved(number: int) -> str:
    if not number:
        return _("No changes.")
    return ngettext("Saved %(number)d change.", "Saved %(number)d changes.", number) % {"number": number}


def _render(request: ProjectRequest, page: SettingsPage, form: SettingsForm, *, status: int = 200) -> HttpResponse:
    context = {"project": request.project, "page": page, "form": form}
    return render(request, "training/settings/show.html", context, status=status)
