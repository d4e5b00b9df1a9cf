"""The pages on which people write and rank: an annotator's item is shown, drafted, submitted,
skipped. What differs between the two kinds: views/label_kinds.py.
"""

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
from annotate.forms.labels import LabelForm, SkipForm
from annotate.models import Assignment, Kind, Member, Role
from annotate.permissions import ProjectRequest, SignedInRequest, enter, role_required
from annotate.services import work
from annotate.services.rankings import BadRanking, by_place
from annotate.services.text import MESSAGE_LIMIT, BadText
from annotate.services.work import NotHolder, OtherBody, StaleDraft
from annotate.views.label_kinds import LABEL_KINDS, next_address, template_path

LONGEST_VERSION = 10  # digits: what follows fits into its column
JUST_DONE = "just-done"  # session key: the assignment that a plain form has ended, until the next page reports it


@role_required(Role.ANNOTATOR)
@require_safe
def write(request: ProjectRequest) -> HttpResponse:
    """The prompt in hand, or the next one."""
    return _hand_out(request, Kind.DEMONSTRATION)


@role_required(Role.ANNOTATOR)
@require_safe
def rank(request: ProjectRequest) -> HttpResponse:
    """The slate in hand, or the next one."""
    return _hand_out(request, Kind.RANKING)


@login_required
@posts_from("annotate:home")
def preview(request: SignedInRequest) -> HttpResponse:
    """The posted text as its readers will see it."""
    text = request.POST.get("text", "")[:MESSAGE_LIMIT]
    return render(request, "annotate/demonstrations/_preview.html", {"text": text})


def _hand_out(request: ProjectRequest, kind: str) -> HttpResponse:
    """The page of the piece that the member holds, of a fresh one, or of the reason why there is none."""
    if request.member is None:
        context = {
            "reason": _("You are not a member of this project. Site admins can view it, but only members label.")
        }
        return render(request, template_path(kind, "page"), context)
    context = _claimed(request.member, kind, _just_done(request.member, request.session.pop(JUST_DONE, 0)))
    return render(request, template_path(kind, "page"), context)


@login_required
@require_safe
def show(request: ProjectRequest, pk: int) -> HttpResponse:
    """A piece of one's own: to go on with while it is held or has run out, else what became of it."""
    assignment = _fetch(request, pk)
    if assignment.status not in Assignment.WRITABLE:
        return redirect("annotate:my-work", assignment.project.slug)
    return render(request, template_path(assignment.kind, "page"), desk_context(assignment))


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
    form = LABEL_KINDS[assignment.kind].form(assignment, request.POST)
    version = request.POST.get("draft_version", "")
    if not (version.isascii() and version.isdigit() and len(version) < LONGEST_VERSION):
        return _plain_text(_("This window sent its draft without a version number. Reload the page."), status=400)
    try:
        stored = save(draft=form.draft(), version=int(version))
    except StaleDraft as stale:
        context = _both_texts(stale.stored, form, before)
        return render(request, "annotate/assignments/_conflict.html", context, status=409)
    except NotHolder:
        return _plain_text(_("This item is no longer assigned to you. Reload the page."), status=410)
    except BadText as error:
        return _plain_text(str(error), status=422)
    saved_at = timezone.localtime(stored.draft_saved_at)
    return JsonResponse({"version": stored.draft_version, "saved_at": date(saved_at, "TIME_FORMAT")})


def _plain_text(sentence: str, *, status: int) -> HttpResponse:
    return HttpResponse(sentence, status=status, content_type="text/plain; charset=utf-8")


@login_required
@posts_from("annotate:assignment", "pk")
def submit(request: ProjectRequest, pk: int) -> HttpResponse:
    """Hand the label in; the answer is the next piece."""
    assignment = _fetch(request, pk)
    label_kind = LABEL_KINDS[assignment.kind]
    form = label_kind.form(assignment, request.POST)
    if not form.is_valid():
        return _render_again(request, assignment, form, status=422)
    try:
        label = label_kind.submit(assignment, form.cleaned_data)
    except (BadText, BadRanking) as error:
        form.add_error(None, str(error))
        return _render_again(request, assignment, form, status=422)
    except (OtherBody, NotHolder) as error:
        return _render_again(request, assignment, form, status=409, refusal=str(error))
    return _next_piece(request, assignment, {"submitted": label})


@login_required
@posts_from("annotate:assignment", "pk")
def skip(request: ProjectRequest, pk: int) -> HttpResponse:
    """Give the piece back with a reason; the answer is the next one."""
    assignment = _fetch(request, pk)
    form = SkipForm(request.POST)
    if not form.is_valid():
        return _render_again(request, assignment, None, status=422, skip_form=form)
    # Released or submitted by now, most likely in another window? Then show the next item as well.
    with suppress(NotHolder):
        work.skip(assignment, reason=form.cleaned_data["reason"])
    return _next_piece(request, assignment, {"skipped": True})


def desk_context(assignment: Assignment, form: LabelForm | None = None, **more: Any) -> dict[str, Any]:
    """What the template `_desk.html` of either kind needs."""
    return {
        "assignment": assignment,
        "prompt": assignment.item.subject_prompt,
        "form": form or LABEL_KINDS[assignment.kind].form(assignment, stored=assignment.draft),
        "action": reverse("annotate:submit", args=[assignment.pk]),
        "skip_form": SkipForm(),
        "readiness": hooks.readiness(assignment.project),
    } | more


def _both_texts(stored: Assignment, form: LabelForm, before: dict[str, Any]) -> dict[str, Any]:
    """What the conflict's template shows: the draft of this window and the one that was stored.

    `there_content` is the stored one as a form sends it, by which a window recognises what it sent itself.
    """
    here, there = form.draft(), stored.draft or before
    places = {
        "here_places": by_place(stored, here.get("places", {})),
        "there_places": by_place(stored, there.get("places", {})),
    }
    return {"stored": stored, "here": here, "there": there, "there_content": urlencode(form.typed(there))} | places


def _fetch(request: ProjectRequest, pk: int) -> Assignment:
    related = ("project", "annotator", "item__prompt", "item__slate__prompt")
    assignment = get_object_or_404(Assignment.objects.for_user(request.user).select_related(*related), pk=pk)
    enter(request, assignment.project, assignment.annotator)
    return assignment


def _render_again(
    request: ProjectRequest, assignment: Assignment, form: LabelForm | None, *, status: int, **more: Any
) -> HttpResponse:
    """The same page again, with everything that was typed and what is wrong with it."""
    template = "_desk" if request.htmx else "page"
    context = desk_context(assignment, form, **more)
    response = render(request, template_path(assignment.kind, template), context, status=status)
    response["HX-Reswap"] = "outerHTML"  # without scrolling: the message appears where the person is
    return response


def _claimed(annotator: Member, kind: str, done: dict[str, Any]) -> dict[str, Any]:
    """The context of the next piece, or of the reason why there is none, and of what was just done."""
    claim = work.claim(annotator.project, annotator=annotator, kind=kind)
    return desk_context(claim.assignment, **done) if claim.assignment else {"reason": claim.reason, **done}


def _just_done(annotator: Member, pk: int) -> dict[str, Any]:
    """What the page says of assignment `pk`, which a plain form has ended; nothing where it is not the annotator's."""
    assignment = annotator.assignments.filter(pk=pk).first()
    if assignment is None:
        return {}
    label = LABEL_KINDS[assignment.kind].model.objects.newest().filter(assignment=assignment).first()
    return {"submitted": label} if label else {"skipped": True}


def _next_piece(request: ProjectRequest, assignment: Assignment, done: dict[str, Any]) -> HttpResponse:
    address = next_address(assignment.kind, assignment.project)
    if not request.htmx:
        request.session[JUST_DONE] = assignment.pk
        return redirect(address)
    context = _claimed(assignment.annotator, assignment.kind, done)
    response = render(request, template_path(assignment.kind, "_desk"), context)
    response["HX-Replace-Url"] = address
    return response
