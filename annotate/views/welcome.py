"""The welcome: a newcomer says who they are, reads the guidelines, and starts."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from annotate.forms.accounts import WelcomeForm
from annotate.models import Kind, Member, Role
from annotate.permissions import SignedInRequest
from annotate.services.overview import overview
from annotate.services.people import accounts

SHORT = 1_500  # characters of guidelines shown unfolded


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def show(request: SignedInRequest) -> HttpResponse:
    """Asked once; whoever comes back later goes home."""
    if request.user.welcomed_at:
        return redirect("annotate:home")
    member = request.user.memberships.active().select_related("project").order_by("-pk").first()
    form = WelcomeForm(request.POST if request.method == "POST" else None, instance=request.user)
    if form.is_valid():
        accounts.welcome(form.instance)
        return redirect(first_page(member) if member else reverse("annotate:home"))
    is_folded = member is not None and len(member.project.guidelines) > SHORT
    context = {"form": form, "member": member, "is_folded": is_folded}
    return render(request, "annotate/accounts/welcome.html", context, status=422 if form.is_bound else 200)


def first_page(member: Member) -> str:
    """Where a newcomer starts: at the first item; reviewers and admins at home, as those without an item."""
    return (member.role == Role.ANNOTATOR and _work(member)) or reverse("annotate:home")


def way_in(member: Member) -> str:
    """Where someone with an account lands who is new in a project: at its first item."""
    slug = member.project.slug
    if member.role == Role.ADMIN:
        return reverse("annotate:project", args=[slug])
    if member.role == Role.REVIEWER:
        return reverse("annotate:reviews", args=[slug])
    return _work(member) or reverse("annotate:guidelines", args=[slug])


def _work(member: Member) -> str:
    """The page of the first kind of work that there is for `member`, rankings before answers; empty for none."""
    works = {work.kind: work for work in overview(member) if not work.reason}
    pages = {Kind.RANKING: "annotate:rank", Kind.DEMONSTRATION: "annotate:write"}
    found = next((page for kind, page in pages.items() if kind in works), None)
    return reverse(found, args=[member.project.slug]) if found else ""
