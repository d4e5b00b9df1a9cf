"""People of the installation, for site admins: who may come in, and by which tokens."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.db.models import Count, Q
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_safe

from annotate.addresses import posts_from
from annotate.compression import shows_secret
from annotate.models import SignInLink, User
from annotate.permissions import SignedInRequest, site_admin_required
from annotate.services.people import accounts, links, tokens
from annotate.services.text import search_term
from annotate.views.paging import Page, list_address

PAGE_SIZE = 50


@site_admin_required
@require_safe
def index(request: SignedInRequest) -> HttpResponse:
    query = search_term(request.GET.get("q", ""))
    usable = Q(api_tokens__revoked_at=None, api_tokens__expires_at__gt=timezone.now())
    people = User.objects.annotate(
        token_count=Count("api_tokens", filter=usable, distinct=True),
        project_count=Count("memberships", filter=Q(memberships__removed_at=None), distinct=True),
    )
    if query:
        people = people.filter(Q(email__icontains=query) | Q(name__icontains=query))
    return render(
        request, "annotate/people/index.html", {"page": Page(people, request, size=PAGE_SIZE), "query": query}
    )


@site_admin_required
@posts_from("annotate:people")
def close(request: SignedInRequest, pk: int) -> HttpResponse:
    success = _("%(name)s can no longer sign in. All sessions, tokens and links are revoked.")
    return _act(request, pk, accounts.close, success)


@site_admin_required
@posts_from("annotate:people")
def reopen(request: SignedInRequest, pk: int) -> HttpResponse:
    return _act(request, pk, accounts.reopen, _("%(name)s can sign in again. Tokens stay revoked."))


@site_admin_required
@posts_from("annotate:people")
def make_site_admin(request: SignedInRequest, pk: int) -> HttpResponse:
    return _act(request, pk, accounts.make_site_admin, _("%(name)s is now a site admin."))


@site_admin_required
@posts_from("annotate:people")
def end_site_admin(request: SignedInRequest, pk: int) -> HttpResponse:
    return _act(request, pk, accounts.end_site_admin, _("%(name)s is no longer a site admin."))


@site_admin_required
@posts_from("annotate:people")
def revoke_tokens(request: SignedInRequest, pk: int) -> HttpResponse:
    user = get_object_or_404(User, pk=pk)
    count = tokens.revoke_all(user, actor=request.user)
    text = ngettext("%(count)d token of %(name)s revoked.", "%(count)d tokens of %(name)s revoked.", count)
    messages.success(request, text % {"count": count, "name": user})
    return redirect(list_address(request, "annotate:people"))


@site_admin_required
@posts_from("annotate:people")
@shows_secret
def reset_password(request: SignedInRequest, pk: int) -> HttpResponse:
    """A link for someone who lost the password or never chose one: a way into everything that the person may see."""
    user = get_object_or_404(User, pk=pk)
    back = list_address(request, "annotate:people")
    if not user.is_active:
        messages.error(request, _("The account of %(name)s is closed. Reopen it first.") % {"name": user})
        return redirect(back)
    made = links.make(user.email, purpose=SignInLink.Purpose.PASSWORD_RESET, created_by=request.user)
    address = request.build_absolute_uri(links.path_of(made.secret))
    return render(request, "annotate/members/link.html", {"made": made, "address": address, "back": back})


def _act(request: SignedInRequest, pk: int, action: Callable[..., None], success: str) -> HttpResponse:
    """Do `action` to the person and say so, or say why it cannot be done."""
    user = get_object_or_404(User, pk=pk)
    try:
        action(user, actor=request.user)
        messages.success(request, success % {"name": user})
    except accounts.LastSiteAdmin:
        messages.error(
            request, _("An installation needs at least one site admin. Make someone else a site admin first.")
        )
    # Site admins who have just ended their own rights no longer see the list.
    request.user.refresh_from_db()
    may_see_list = request.user.is_active and request.user.is_superuser
    return redirect(list_address(request, "annotate:people") if may_see_list else "annotate:home")
