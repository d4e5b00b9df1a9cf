"""The piece of work in one's hands, of either kind: see it, draft it, hand it in, skip it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.defaultfilters import date
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from annotate import hooks
from annotate.addresses import posts_from
from annotate.forms.skips import SkipForm
from annotate.models import Assignment, Member
from annotate.permissions import ProjectRequest, SignedInRequest
from annotate.services import work
from annotate.services.letters import by_place
from annotate.services.rankings import BadRanking
from annotate.services.text import BadText
from annotate.services.work import NotHolder, OtherBody, StaleDraft
from annotate.views.desks import DESKS, LabelForm, next_address

LONGEST_VERSION = 10  # digits: what follows fits into its column
JUST_DONE = "just-done"  # in the session, until the next page says it: the assignment that a plain form has ended


def hand_out(request: ProjectRequest, kind: str) -> HttpResponse:
    """The page of the piece that the member holds, of a fresh one, or of the reason why there is none."""
    if request.member is None:
        context = {"reason": _("You are no member of this project: site admins look, members label.")}
        return render(request, f"annotate/{DESKS[kind].folder}/page.html", context)
    context = _claimed(request.member, kind, _just_done(request.member, request.session.pop(JUST_DONE, 0)))
    return render(request, f"annotate/{DESKS[kind].folder}/page.html", context)


@login_required
@require_safe
def show(request: ProjectRequest, pk: int) -> HttpResponse:
    """A piece of one's own: to go on with while it is held or has run out, else what became of it."""
    assignment = _fetch(request, pk)
    if assignment.status not in (Assignment.Status.HELD, Assignment.Status.EXPIRED):
        return redirect("annotate:my-work", assignment.project.slug)
    return render(request, f"annotate/{DESKS[assignment.kind].folder}/page.html", desk_context(assignment))


@login_required
@posts_from("annotate:assignment", "pk")
def save_draft(request: ProjectRequest, pk: int) -> HttpResponse:
    """Keep what was typed so far. 409 with both texts when another window saved something else in the meantime."""
    assignment = _fetch(request, pk)
    return keep_draft(request, assignment, partial(work.save_draft, assignment), before={})


def keep_draft(
    request: SignedInRequest, assignment: Assignment, save: Callable[..., Assignment], *, before: dict[str, Any]
) -> HttpResponse:
    """Answer an autosave with what `save` made of it; `before` is what stands where no draft is stored."""
    form = DESKS[assignment.kind].form(assignment, request.POST)
    version = request.POST.get("draft_version", "")
    if not (version.isascii() and version.isdigit() and len(version) < LONGEST_VERSION):
        return _in_words(_("This window sent no number of its draft: reload the page."), status=400)
    try:
        stored = save(draft=form.draft(), version=int(version))
    except StaleDraft as stale:
        context = _both_texts(stale.stored, form, before)
        return render(request, "annotate/assignments/_conflict.html", context, status=409)
    except NotHolder:
        return _in_words(_("This piece is no longer in your hands: reload the page."), status=410)
    except BadText as error:
        return _in_words(str(error), status=422)
    saved_at = timezone.localtime(stored.draft_saved_at)
    return JsonResponse({"version": stored.draft_version, "saved_at": date(saved_at, "TIME_FORMAT")})


def _in_words(sentence: str, *, status: int) -> HttpResponse:
    return HttpResponse(sentence, status=status, content_type="text/plain; charset=utf-8")


@login_required
@posts_from("annotate:assignment", "pk")
def submit(request: ProjectRequest, pk: int) -> HttpResponse:
    """Hand the label in; the answer is the next piece."""
    assignment = _fetch(request, pk)
    desk = DESKS[assignment.kind]
    form = desk.form(assignment, request.POST)
    if not form.is_valid():
        return _back(request, assignment, form, status=422)
    try:
        label = desk.submit(assignment, form.cleaned_data)
    except (BadText, BadRanking) as error:
        form.add_error(None, str(error))
        return _back(request, assignment, form, status=422)
    except (OtherBody, NotHolder) as error:
        return _back(request, assignment, form, status=409, refusal=str(error))
    return _next_piece(request, assignment, {"submitted": label})


@login_required
@posts_from("annotate:assignment", "pk")
def skip(request: ProjectRequest, pk: int) -> HttpResponse:
    """Give the piece back with a reason; the answer is the next one."""
    assignment = _fetch(request, pk)
    form = SkipForm(request.POST)
    if not form.is_valid():
        return _back(request, assignment, None, status=422, skip_form=form)
    # Given back or handed in by now, most likely in another window? Then the next piece is the answer, too.
    with suppress(NotHolder):
        work.skip(assignment, reason=form.cleaned_data["reason"])
    return _next_piece(request, assignment, {"skipped": True})


def desk_context(assignment: Assignment, form: LabelForm | None = None, **more: Any) -> dict[str, Any]:
    """What both desks' templates need."""
    return {
        "assignment": assignment,
        "prompt": assignment.item.subject_prompt,
        "form": form or DESKS[assignment.kind].form(assignment, stored=assignment.draft),
        "action": reverse("annotate:submit", args=[assignment.pk]),
        "skip_form": SkipForm(),
        "readiness": hooks.readiness(assignment.project),
    } | more


def _both_texts(stored: Assignment, form: LabelForm, before: dict[str, Any]) -> dict[str, Any]:
    """What the conflict's template shows: the draft of this window beside the one that was stored.

    `there_content` is the stored one as a form sends it, by which a window recognises what it sent itself.
    """
    here, there = form.draft(), stored.draft or before
    places = {
        "here_places": by_place(stored, here.get("places", {})),
        "there_places": by_place(stored, there.get("places", {})),
    }
    return {"stored": stored, "here": here, "there": there, "there_content": urlencode(form.typed(there))} | places


def _fetch(request: SignedInRequest, pk: int) -> Assignment:
    related = ("project", "annotator", "item__prompt", "item__slate__prompt")
    assignment = get_object_or_404(Assignment.objects.for_user(request.user).select_related(*related), pk=pk)
    request.project, request.member = assignment.project, assignment.annotator  # type: ignore[attr-defined]
    request.role = assignment.annotator.role  # type: ignore[attr-defined]
    return assignment


def _back(
    request: ProjectRequest, assignment: Assignment, form: LabelForm | None, *, status: int, **more: Any
) -> HttpResponse:
    """The same desk again, with everything that was typed and what is wrong with it."""
    template = "_desk" if request.htmx else "page"
    context = desk_context(assignment, form, **more)
    response = render(request, f"annotate/{DESKS[assignment.kind].folder}/{template}.html", context, status=status)
    response["HX-Reswap"] = "outerHTML"  # without scrolling: what is wrong stands where one is
    return response


def _claimed(annotator: Member, kind: str, done: dict[str, Any]) -> dict[str, Any]:
    """The next piece for the desk, or why there is none, and what was just done."""
    claim = work.claim(annotator.project, annotator=annotator, kind=kind)
    return desk_context(claim.assignment, **done) if claim.assignment else {"reason": claim.reason, **done}


def _just_done(annotator: Member, pk: int) -> dict[str, Any]:
    """What the desk says of assignment `pk`, which a plain form has ended; nothing where it is not the annotator's."""
    assignment = annotator.assignments.filter(pk=pk).first()
    if assignment is None:
        return {}
    label = DESKS[assignment.kind].model.objects.filter(assignment=assignment, superseded_by=None).first()
    return {"submitted": label} if label else {"skipped": True}


def _next_piece(request: ProjectRequest, assignment: Assignment, done: dict[str, Any]) -> HttpResponse:
    address = next_address(assignment.kind, assignment.project)
    if not request.htmx:
        request.session[JUST_DONE] = assignment.pk
        return redirect(address)
    context = _claimed(assignment.annotator, assignment.kind, done)
    response = render(request, f"annotate/{DESKS[assignment.kind].folder}/_desk.html", context)
    response["HX-Replace-Url"] = address
    return response
