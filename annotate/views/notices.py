"""The notices of a person, from all projects: read one by opening it, or all at once."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from annotate.addresses import posts_from
from annotate.models import Notice
from annotate.permissions import SignedInRequest
from annotate.services import notices
from annotate.services.text import is_id
from annotate.views.paging import Page, list_address

PAGE_SIZE = 50


@login_required
@require_safe
def index(request: SignedInRequest) -> HttpResponse:
    mine = Notice.objects.for_user(request.user).select_related("member__project")
    context = {"page": Page(mine, request, size=PAGE_SIZE), "has_unread": mine.unread().exists()}
    return render(request, "annotate/notices/index.html", context)


@login_required
@posts_from("annotate:notices")
def open_notice(request: SignedInRequest, pk: int) -> HttpResponse:
    """Mark one as read, and go where it points."""
    mine = Notice.objects.for_user(request.user)
    notice = get_object_or_404(mine, pk=pk)
    notices.mark_read(mine.filter(pk=pk))
    return redirect(notice.address or "annotate:notices")


@login_required
@posts_from("annotate:notices")
def read_all(request: SignedInRequest) -> HttpResponse:
    notices.mark_read(Notice.objects.for_user(request.user))
    return redirect(list_address(request, "annotate:notices"))


@login_required
@posts_from("annotate:notices")
def choose_mail(request: SignedInRequest) -> HttpResponse:
    """Which projects' notices are also sent by email."""
    chosen = [int(pk) for pk in request.POST.getlist("project") if is_id(pk)]
    notices.choose_mail(request.user, projects=chosen)
    messages.success(request, _("Saved."))
    return redirect("annotate:account")
