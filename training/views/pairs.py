"""The buttons below the pairs of a round's result: let people rank both answers, watch the prompt, or no longer."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.translation import gettext as _

from annotate.addresses import posts_from
from annotate.models import Prompt, Role
from annotate.permissions import ProjectRequest, role_required
from annotate.services.slates import BadSlate
from annotate.services.text import BadText
from training.models import Result
from training.services.labels.sent_samples import AlreadySent
from training.services.pages.pair_actions import SECTIONS
from training.services.running import pairs, probes
from training.services.running.pairs import Pair
from training.views.rounds import fetch


@role_required(Role.ADMIN)
@posts_from("training:round", "slug", "number")
def rank(request: ProjectRequest, number: int, prompt: int) -> HttpResponse:
    """Let people rank the two answers."""
    result, pair = _fetch_pair(request, number, prompt)
    try:
        pairs.let_people_rank(result, pair, sent_by=request.user)
        messages.success(request, _("People are now asked to rank the two answers."))
    except AlreadySent as told:
        messages.info(request, str(told))
    except (BadSlate, BadText) as refusal:
        messages.error(request, str(refusal))
    return _back(request, number, prompt)


@role_required(Role.ADMIN)
@posts_from("training:round", "slug", "number")
def watch(request: ProjectRequest, number: int, prompt: int) -> HttpResponse:
    """Show the answers to the prompt in the result of every later round."""
    result, _pair = _fetch_pair(request, number, prompt)
    try:
        probes.mark(_fetch_prompt(request, prompt), seen_in=result.round, marked_by=request.user)
        messages.success(request, _("Later rounds now show their answers to prompt #%(number)d.") % {"number": prompt})
    except probes.CannotWatch as refusal:
        messages.error(request, str(refusal))
    return _back(request, number, prompt)


@role_required(Role.ADMIN)
@posts_from("training:round", "slug", "number")
def unwatch(request: ProjectRequest, number: int, prompt: int) -> HttpResponse:
    """Show them no longer; results that do stay as they are."""
    fetch(request, number)
    probes.withdraw(_fetch_prompt(request, prompt), actor=request.user)
    messages.success(request, _("Prompt #%(number)d is no longer watched.") % {"number": prompt})
    return _back(request, number, prompt)


def _fetch_pair(request: ProjectRequest, number: int, prompt: int) -> tuple[Result, Pair]:
    result = get_object_or_404(Result.objects.select_related("round__project"), round=fetch(request, number))
    pair = pairs.of_prompt(result, prompt)
    if pair is None:
        raise Http404
    return result, pair


def _fetch_prompt(request: ProjectRequest, prompt: int) -> Prompt:
    visible = Prompt.objects.for_user(request.user).select_related("project")
    return get_object_or_404(visible, project=request.project, pk=prompt)


def _back(request: ProjectRequest, number: int, prompt: int) -> HttpResponse:
    """To the same pair in the section whose button was pressed."""
    address = reverse("training:round", args=[request.project.slug, number])
    section = request.POST.get("section")
    return redirect(f"{address}#{section}-{prompt}" if section in SECTIONS else address)
